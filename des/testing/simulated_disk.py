"""A disk in memory that loses what real ones lose, by a seed.

Every file has what programs see and what is on the device; between the two stand changes that no sync
has covered. So have the folders their names. `crash` keeps an arbitrary part of both, by 512-byte
sectors and by whole name changes, in any order a device or file system could have chosen.
"""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from des.storage.disk import DiskFile, DiskLock
from des.testing.unsynced import Inode, Loss, Naming, Resize, Write, survivors

T = TypeVar("T")


class PowerCut(BaseException):
    """The machine is off. Every call raises it until `SimulatedDisk.crash`."""


@dataclass(slots=True)
class Fault:
    """A call that fails."""

    at: int
    """Number of the call, as `SimulatedDisk.calls` counts them."""
    code: int
    """errno."""
    forever: bool = False
    """This call and every later one."""
    only: str | None = None
    """Only calls of this name fail: the first at or after `at`."""


class SimulatedFile:
    """An open file of a `SimulatedDisk`."""

    def __init__(self, disk: "SimulatedDisk", inode: Inode) -> None:
        self._disk = disk
        self._inode = inode
        self._boot = disk.boots
        self._closed = False

    def _call(self, name: str, act: Callable[[], T], on_fault: Callable[[], None] | None = None) -> T:
        if self._boot != self._disk.boots:
            raise PowerCut("a file of before the crash")
        if self._closed:
            raise OSError(errno.EBADF, "the file is closed")
        return self._disk.call(name, act, on_fault)

    def pwrite(self, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """Write all, or fewer bytes where the disk is told to."""
        data = b"".join(buffers)
        if len(data) > 1 and self._disk.chance(self._disk.short_writes):
            data = data[: self._disk.rng.randrange(1, len(data))]

        def act() -> int:
            growth = max(0, offset + len(data) - len(self._inode.content))
            room = self._disk.room()
            taken = data if growth <= room else data[: max(0, len(data) - (growth - room))]
            if data and not taken:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._inode.change(Write(offset, taken))
            return len(taken)

        def on_fault() -> None:
            part = data[: self._disk.rng.randrange(len(data) + 1)]
            if part:
                self._inode.change(Write(offset, part))

        return self._call("pwrite", act, on_fault)

    def pread(self, size: int, offset: int) -> bytes:
        """Read what programs see."""
        return self._call("pread", lambda: bytes(self._inode.content[offset : offset + size]))

    def pread_cached(self, size: int, offset: int) -> bytes | None:
        """Read what programs see, or None as if some of it had to be fetched."""
        if self._disk.chance(self._disk.cold_reads):
            return None
        data = bytes(self._inode.content[offset : offset + size])
        return data if len(data) == size else None

    def sync(self) -> None:
        """Put all changes on the device. A sync that fails keeps some and forgets the others."""
        inode = self._inode

        def lose() -> None:
            inode.settle(survivors(inode.sectors(), None, self._disk.rng))

        self._call("sync", lambda: inode.settle(inode.dirty), lose)

    def allocate(self, size: int) -> None:
        """Reserve and extend."""

        def act() -> None:
            growth = size - len(self._inode.content)
            if growth > self._disk.room():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if growth > 0:
                self._inode.change(Resize(size))

        self._call("allocate", act)

    def truncate(self, size: int) -> None:
        """Cut or extend."""
        self._call("truncate", lambda: self._inode.change(Resize(size)))

    def size(self) -> int:
        """Return the length programs see."""
        return self._call("size", lambda: len(self._inode.content))

    def close(self) -> None:
        """Close; not counted as a call."""
        self._closed = True


class SimulatedLock:
    """A lock of a `SimulatedDisk`."""

    def __init__(self, locks: set[str], path: str) -> None:
        self._locks = locks
        self._path = path
        locks.add(path)
        self._held = True

    def release(self) -> None:
        """Let go. Twice is once."""
        if self._held:
            self._locks.discard(self._path)
        self._held = False


class SimulatedDisk:
    """The disk; passes `DiskSuite` while no fault is planned."""

    def __init__(self, rng: Random, *, capacity: int = 1 << 40) -> None:
        self.rng = rng
        self.capacity = capacity
        """Bytes of content that fit."""
        self.calls = 0
        """Counts every call that can fail."""
        self.history: list[str] = []
        """Names of those calls."""
        self.faults: list[Fault] = []
        self.cut_at: int | None = None
        """Number of the call during which the power goes."""
        self.off = False
        self.boots = 0
        """Crashes so far; files of before one are dead."""
        self.short_writes = 0.0
        """Share of writes that take only a part."""
        self.cold_reads = 0.25
        """Share of cached reads that find nothing."""
        self._names: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
        self._unsynced_names: list[Naming] = []
        self._folders: set[str] = {""}
        self._locks: set[str] = set()

    # --- faults -----------------------------------------------------------------------------

    def call(self, name: str, act: Callable[[], T], on_fault: Callable[[], None] | None = None) -> T:
        """Count a call and do it, unless it is the one to fail or the last before the power goes."""
        if self.off:
            raise PowerCut("the power is off")
        self.calls += 1
        self.history.append(name)
        if self.calls == self.cut_at:
            if self.chance(0.5):
                act()
            elif on_fault is not None:
                on_fault()
            self.off = True
            raise PowerCut(f"the power went during call {self.calls}, {name}")
        for fault in self.faults:
            due = self.calls >= fault.at if fault.forever or fault.only else self.calls == fault.at
            if due and fault.only in {None, name}:
                if not fault.forever:
                    self.faults.remove(fault)
                if on_fault is not None:
                    on_fault()
                raise OSError(fault.code, f"{os.strerror(fault.code)} (planned, call {self.calls}, {name})")
        return act()

    def chance(self, share: float) -> bool:
        """Decide by the seed."""
        return share > 0 and self.rng.random() < share

    def crash(self, loss: Loss | None = None) -> None:
        """Cut the power and give it back: keep an arbitrary part of what no sync has covered.

        Args:
            loss: which part; None lets the seed choose.
        """
        inodes = {id(inode): inode for inode in self._durable_names.values()}
        inodes |= {
            id(inode): inode
            for naming in self._unsynced_names
            for inode in naming.names.values()
            if inode is not None
        }
        for naming in survivors(self._unsynced_names, loss, self.rng):
            naming.apply(self._durable_names)
        self._unsynced_names.clear()
        for inode in inodes.values():
            inode.settle(survivors(inode.sectors(), loss, self.rng))
            inode.content = bytearray(inode.durable)
        self._names = dict(self._durable_names)
        self.faults.clear()
        self.cut_at = None
        self.restart()

    def restart(self) -> None:
        """Kill the process and nothing else: what programs saw stays, and so do planned faults."""
        self._locks.clear()
        self.off = False
        self.boots += 1

    # --- looking and hurting, for tests -------------------------------------------------------

    def content(self, path: str) -> bytes:
        """Return what programs see of a file."""
        return bytes(self._names[path].content)

    def overwrite(self, path: str, content: bytes) -> None:
        """Replace a file's content, on the device too: rot, or a hand that slipped."""
        inode = Inode(bytearray(content), bytearray(content))
        self._names[path] = self._durable_names[path] = inode

    def is_durable(self, path: str) -> bool:
        """Whether a file's name and every byte of it are on the device."""
        inode = self._durable_names.get(path)
        return inode is not None and inode is self._names.get(path) and inode.content == inode.durable

    def room(self) -> int:
        """Return bytes that still fit."""
        return self.capacity - sum(len(inode.content) for inode in self._names.values())

    # --- the door -----------------------------------------------------------------------------

    def _rename(self, naming: Naming) -> None:
        naming.apply(self._names)
        self._unsynced_names.append(naming)

    def create(self, path: str) -> DiskFile:
        """Make a file whose name no sync has covered yet."""

        def act() -> SimulatedFile:
            if path in self._names:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            self._check_folder(path)
            inode = Inode()
            self._rename(Naming({path: inode}))
            return SimulatedFile(self, inode)

        return self.call("create", act)

    def open(self, path: str) -> DiskFile:
        """Open a file."""
        return self.call("open", lambda: SimulatedFile(self, self._inode(path)))

    def make_directory(self, path: str) -> None:
        """Make folders, durable at once."""

        def act() -> None:
            parts = path.split("/")
            self._folders.update("/".join(parts[: index + 1]) for index in range(len(parts)))

        self.call("make_directory", act)

    def list(self, path: str) -> list[str]:
        """Return the names in a folder, sorted."""

        def act() -> list[str]:
            start = f"{path}/" if path else ""
            within = {*self._names, *self._folders} - {"", path}
            return sorted(
                {name.removeprefix(start).split("/")[0] for name in within if name.startswith(start)}
            )

        return self.call("list", act)

    def rename(self, source: str, target: str) -> None:
        """Move a name; durable whole or not at all."""
        self.call("rename", lambda: self._rename(Naming({source: None, target: self._inode(source)})))

    def remove(self, path: str) -> None:
        """Take a name away."""
        self.call("remove", lambda: self._rename(Naming({path: None})) if path in self._names else None)

    def sync_directory(self, path: str) -> None:
        """Make the names of a folder durable. A sync that fails leaves them as they are."""

        def act() -> None:
            for naming in self._unsynced_names:
                if naming.in_folder(path):
                    naming.apply(self._durable_names)
            self._unsynced_names = [each for each in self._unsynced_names if not each.in_folder(path)]

        self.call("sync_directory", act)

    def lock(self, path: str) -> DiskLock:
        """Lock; a crash lets go."""

        def act() -> SimulatedLock:
            if path in self._locks:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)
            if path not in self._names:
                self._check_folder(path)
                self._rename(Naming({path: Inode()}))
            return SimulatedLock(self._locks, path)

        return self.call("lock", act)

    def free_bytes(self) -> int:
        """Return the room left."""
        return self.call("free_bytes", lambda: max(0, self.room()))

    def _inode(self, path: str) -> Inode:
        try:
            return self._names[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def _check_folder(self, path: str) -> None:
        if os.path.dirname(path) not in self._folders:  # noqa: PTH120  plain strings
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
