"""The store's directory: whose it is, how often it was started, and that one process has it.

`store.json` holds `{"format": 1, "node": "<uuid>", "boot_epoch": n}`; every start raises the epoch
before it does anything else.
"""

import json
import os
from dataclasses import dataclass
from typing import Any, Final, Self
from uuid import UUID, uuid4

from des.errors import CorruptError, PreconditionError
from des.ingest.writer import write_all
from des.storage.disk import Disk, DiskLock

FORMAT: Final = 1
LOCK_FILE: Final = "lock"
STORE_FILE: Final = "store.json"
_TEMPORARY: Final = "store.json.tmp"
_READ_MAX: Final = 64 << 10
"""Bytes of either file that are read."""


class StoreInUseError(PreconditionError):
    """Another process has the store open."""


class StoreVersionError(PreconditionError):
    """A newer version of DES made the store."""


class StoreFileError(CorruptError):
    """`store.json` does not say what it must."""


@dataclass(slots=True)
class StoreDirectory:
    """A store's directory, held by this process."""

    node_uuid: UUID
    boot_epoch: int
    """Number of this start; 1 is the first."""
    lock: DiskLock

    @classmethod
    def open(cls, disk: Disk, *, new_node: UUID | None = None) -> Self:
        """Lock the directory, made if absent, and count this start. Blocks.

        Args:
            disk: its root is the directory.
            new_node: identity of a store that is made now; None for a random one.

        Raises:
            StoreInUseError: another process holds it.
            StoreVersionError: a newer version made it; nothing was changed.
            StoreFileError: `store.json` is not readable as one.
            OSError: the disk refused.
        """
        disk.make_directory("")
        try:
            lock = disk.lock(LOCK_FILE)
        except BlockingIOError as error:
            raise _in_use(disk) from error
        try:
            _write(disk, LOCK_FILE, f"{os.getpid()}\n".encode())
            names = disk.list("")
            if STORE_FILE in names:
                node, epoch = _decode(_read(disk, STORE_FILE))
            else:
                node, epoch = new_node or uuid4(), 0
            _replace(disk, _encode(node, epoch + 1), leftover=_TEMPORARY in names)
        except BaseException:
            lock.release()
            raise
        return cls(node, epoch + 1, lock)

    def close(self) -> None:
        """Let another process have it. Twice is once."""
        self.lock.release()


def _encode(node: UUID, boot_epoch: int) -> bytes:
    return json.dumps({"format": FORMAT, "node": str(node), "boot_epoch": boot_epoch}).encode() + b"\n"


def _decode(raw: bytes) -> tuple[UUID, int]:
    """Return node and boot epoch."""
    try:
        content: Any = json.loads(raw)
        found = content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreFileError(f"{STORE_FILE} is {raw[:80]!r}, expected an object with a format") from error
    if not isinstance(found, int) or found < 1:
        raise StoreFileError(f"{STORE_FILE} has format {found!r}, expected {FORMAT}")
    if found > FORMAT:
        raise StoreVersionError(
            f"the store has format {found}, this version of DES supports up to {FORMAT}",
            found=found,
            supported=FORMAT,
        )
    try:
        node, epoch = UUID(content["node"]), content["boot_epoch"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreFileError(f"{STORE_FILE} is {raw[:200]!r}, expected node and boot_epoch") from error
    if not isinstance(epoch, int) or epoch < 0:
        raise StoreFileError(f"{STORE_FILE} has boot_epoch {epoch!r}, expected a number from 0")
    return node, epoch


def _replace(disk: Disk, content: bytes, *, leftover: bool) -> None:
    """Make `content` the store file: the old one or the new one survives a crash, whole."""
    if leftover:
        disk.remove(_TEMPORARY)
    disk.create(_TEMPORARY).close()
    _write(disk, _TEMPORARY, content)
    disk.rename(_TEMPORARY, STORE_FILE)
    disk.sync_directory("")


def _write(disk: Disk, path: str, content: bytes) -> None:
    file = disk.open(path)
    try:
        file.truncate(0)
        write_all(file, [content], 0)
        file.sync()
    finally:
        file.close()


def _read(disk: Disk, path: str) -> bytes:
    file = disk.open(path)
    try:
        return file.pread(_READ_MAX, 0)
    finally:
        file.close()


def _in_use(disk: Disk) -> StoreInUseError:
    try:
        holder = _read(disk, LOCK_FILE).decode(errors="replace").strip()
    except OSError:
        holder = ""
    who = f"process {holder}" if holder.isdigit() else "another process"
    return StoreInUseError(f"the store is open in {who}", holder=holder)
