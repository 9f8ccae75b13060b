"""An object store in a local directory: one file per object, made whole or not at all.

<root>/<key>                        the object
<root>/.metadata/<folder>/.<n>.json its metadata, durable before the object appears
<root>/.incoming/                   objects being written
<root>/.object-store                says that the root is here and mounted
"""

import asyncio
import errno
import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from des.clock import Clock, SystemClock
from des.storage.checks import InvalidKeyError, check_etag, check_key, check_object_metadata, check_range
from des.storage.folders import locked_folder, make_folders, sync_folder, sync_folders
from des.storage.local_upload import Incoming, LocalUpload, remove_leftovers
from des.storage.object_store import (
    Body,
    Capabilities,
    NoSuchObjectError,
    ObjectDamagedError,
    ObjectExistsError,
    ObjectInfo,
    ObjectStoreFullError,
    ObjectStoreUnavailableError,
    ObjectUpload,
)
from des.storage.open_files import OpenFiles

P = ParamSpec("P")
T = TypeVar("T")

LEFTOVER_AGE_MS: Final = 24 * 3600 * 1000
"""A file in `.incoming` that nobody writes and that is older than this was left by a crash."""
OPEN_FILES_MAX: Final = 128
"""Objects kept open for reading."""
INLINE_READ_MAX: Final = 1 << 18
"""Bytes read on the event loop when memory holds them (about 30 µs); more goes to a thread."""
COPY_SIZE: Final = 1 << 20
"""Bytes moved at once from a body to its file."""
THREADS_MAX: Final = 16
"""Blocking calls under way at once."""

_METADATA: Final = ".metadata"
_INCOMING: Final = ".incoming"
_MARKER: Final = ".object-store"
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class _Listed:
    """An object, or a folder still to be looked into."""

    key: str
    info: ObjectInfo | None
    """None for a folder."""


class LocalObjectStore:
    """Objects as files under `root`, for one machine; several processes may share it."""

    def __init__(self, root: Path, clock: Clock | None = None) -> None:
        """Open the store, making its folders where they are missing and removing dead uploads.

        Raises:
            ObjectStoreUnavailableError: the root cannot be used.
        """
        self._root: Final = root.absolute()
        self._root_prefix: Final = f"{self._root}/"
        self._clock = clock or SystemClock()
        self._files = OpenFiles(OPEN_FILES_MAX)
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="local-object-store")
        with self.translated(""):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self._root.parent)
            for folder in (_METADATA, _INCOMING):
                make_folders(self._root, self._root / folder)
            (self._root / _MARKER).touch(mode=0o600)
            sync_folder(self._root)
            remove_leftovers(self._root / _INCOMING, self._clock.now_ms() - LEFTOVER_AGE_MS)

    async def capabilities(self) -> Capabilities:
        """Return what a directory honours."""
        return Capabilities(
            kind="local",
            conditional_create=True,
            checksums=False,
            server_side_copy=False,
            survives_node=False,
        )

    async def create(self, key: str, body: Body, *, metadata: Mapping[str, str]) -> ObjectInfo:
        """Write `body` whole under a new key, or not at all; durable when it returns.

        Raises:
            InvalidKeyError: the key is no safe path, or runs through another object's key.
            ObjectExistsError: the key is taken.
            ObjectStoreFullError: no room.
            ObjectStoreUnavailableError: outcome unknown; `head` tells.
        """
        check_key(key)
        check_object_metadata(metadata)
        return await self.in_thread(self._create, key, body, dict(metadata))

    async def begin_upload(self, key: str, *, metadata: Mapping[str, str]) -> ObjectUpload:
        """Start writing a new object of unknown size from a stream."""
        check_key(key)
        check_object_metadata(metadata)
        incoming = await self.in_thread(self.open_incoming, key)
        return LocalUpload(self, key, dict(metadata), incoming)

    async def get_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """Return exactly the bytes `[start, stop)`; from memory without a thread where possible.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectDamagedError: the object ends before `stop`.
            ObjectStoreUnavailableError: the disk refused.
        """
        check_range(start, stop)
        if start == stop:
            return b""
        if stop - start <= INLINE_READ_MAX and key in self._files:
            data = self._read_cached(key, start, stop, etag)
            if data is not None:
                return data
        check_key(key)
        return await self.in_thread(self._read, key, start, stop, etag)

    async def get_tail(self, key: str, size: int, *, etag: str | None = None) -> tuple[ObjectInfo, bytes]:
        """Return the last `size` bytes and what the store knows about `key`.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectStoreUnavailableError: the disk refused.
        """
        check_key(key)
        return await self.in_thread(self._tail, key, size, etag)

    async def head(self, key: str) -> ObjectInfo:
        """Return what the store knows about `key`.

        Raises:
            NoSuchObjectError: no such key.
            ObjectStoreUnavailableError: the disk refused.
        """
        check_key(key)
        return await self.in_thread(self._head, key)

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield objects whose key starts with `prefix`, in key order, after `start_after`."""
        # Next key last. A folder's key ends with "/", so it sorts among objects as the keys in it do.
        waiting: list[_Listed] = [_Listed("", None)]
        while waiting:
            listed = waiting.pop()
            if listed.info is not None:
                yield listed.info
                continue
            inside = await self.in_thread(self._scan, listed.key, prefix, start_after)
            waiting.extend(reversed(inside))

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        """Remove an object; an absent one is fine.

        Raises:
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectStoreUnavailableError: the disk refused; outcome unknown.
        """
        check_key(key)
        await self.in_thread(self._delete, key, etag)

    async def abort_stale_uploads(self, prefix: str, *, begun_before_ms: int) -> int:  # noqa: ARG002
        """Remove files of uploads whose process died; they have no keys, so `prefix` chooses none."""
        return await self.in_thread(remove_leftovers, self._root / _INCOMING, begun_before_ms)

    async def close(self) -> None:
        """Let calls under way end, and close all files."""
        await asyncio.to_thread(self._threads.shutdown)
        self._files.close()

    async def in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call in one of the store's own threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(call, *args, **kwargs))

    # --- writing: everything below blocks ---------------------------------------------------------

    def open_incoming(self, key: str) -> Incoming:
        """Start a file that nobody sees."""
        with self.translated(key):
            return Incoming(self._root / _INCOMING)

    def publish(self, incoming: Incoming, key: str, metadata: Mapping[str, str]) -> ObjectInfo:
        """Make a whole incoming file the object `key`, durable with its metadata.

        The lock on the metadata's folder makes the check, the metadata and the object one step; `link`
        never replaces, so an object made without the lock is safe too.
        """
        path = self._root / key
        sidecar = self._sidecar(key)
        with self.translated(key):
            incoming.sync(self._clock.now_ms())
            try:
                make_folders(self._root, path.parent)
            except (FileExistsError, NotADirectoryError):
                raise InvalidKeyError(f"key {key!r} runs through another object's key") from None
            make_folders(self._root, sidecar.parent)
            with locked_folder(sidecar.parent):
                self._demand_free(key, path)
                self._write_sidecar(sidecar, metadata)
                try:
                    path.hardlink_to(incoming.path)
                except FileExistsError:
                    raise ObjectExistsError(f"object {key!r} exists", key=key) from None
                sync_folders(self._root, path.parent)
            incoming.discard()
            return _info(key, path.stat(), metadata)

    def _create(self, key: str, body: Body, metadata: Mapping[str, str]) -> ObjectInfo:
        incoming = self.open_incoming(key)
        try:
            size = body.size()
            offset = 0
            while offset < size:
                data = body.pread(min(COPY_SIZE, size - offset), offset)
                if not data:
                    raise ObjectDamagedError(f"body of {key!r} ends at {offset}, its size is {size}")
                with self.translated(key):
                    incoming.write(data)
                offset += len(data)
            return self.publish(incoming, key, metadata)
        finally:
            incoming.discard()

    def _demand_free(self, key: str, path: Path) -> None:
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            raise InvalidKeyError(f"key {key!r} is the start of other objects' keys")
        raise ObjectExistsError(f"object {key!r} exists", key=key)

    def _write_sidecar(self, sidecar: Path, metadata: Mapping[str, str]) -> None:
        incoming = Incoming(self._root / _INCOMING)
        try:
            incoming.write(json.dumps({"metadata": dict(metadata)}).encode())
            incoming.sync(self._clock.now_ms())
            incoming.path.replace(sidecar)
            sync_folders(self._root, sidecar.parent)
        finally:
            incoming.discard()

    def _delete(self, key: str, etag: str | None) -> None:
        path = self._root / key
        sidecar = self._sidecar(key)
        with self.translated(key):
            try:
                self._stat(key)
            except NoSuchObjectError:
                return
            make_folders(self._root, sidecar.parent)
            with locked_folder(sidecar.parent):
                try:
                    found = self._stat(key)
                except NoSuchObjectError:
                    return
                check_etag(_info(key, found, {}), etag)
                path.unlink()
                sync_folder(path.parent)
                sidecar.unlink(missing_ok=True)
            self._files.forget(key)

    # --- reading ----------------------------------------------------------------------------------

    def _read_cached(self, key: str, start: int, stop: int, etag: str | None) -> bytes | None:
        """Return a range that memory holds, of an object that still is there; None to ask a thread."""
        try:
            found = os.stat(self._root_prefix + key)  # noqa: PTH116 - a Path costs as much as the read
        except OSError:
            return None
        file = self._files.get(key, found)
        if file is None or (etag is not None and etag != _etag(found)) or stop > found.st_size:
            return None
        return file.read_cached(start, stop - start)

    def _read(self, key: str, start: int, stop: int, etag: str | None) -> bytes:
        with self.translated(key):
            found = self._stat(key)
            file = self._files.get(key, found) or self._files.open(key, self._root / key)
            check_etag(_info(key, file.stat, {}), etag)
            data = file.read(start, stop - start)
        if len(data) != stop - start:
            raise ObjectDamagedError(
                f"{key!r} has {file.stat.st_size} bytes, expected at least {stop}", key=key
            )
        return data

    def _tail(self, key: str, size: int, etag: str | None) -> tuple[ObjectInfo, bytes]:
        info = self._head(key)
        check_etag(info, etag)
        return info, self._read(key, max(0, info.size - size), info.size, info.etag)

    def _head(self, key: str) -> ObjectInfo:
        with self.translated(key):
            return _info(key, self._stat(key), self._metadata(key))

    def _stat(self, key: str) -> os.stat_result:
        """Return the object's stat.

        Raises:
            NoSuchObjectError: the root is here, and the object is not in it.
        """
        try:
            found = (self._root / key).stat()
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            self._demand_root()
            raise NoSuchObjectError(f"no object {key!r}", key=key) from None
        if not stat.S_ISREG(found.st_mode):
            raise NoSuchObjectError(f"no object {key!r}, only a folder", key=key)
        return found

    def _demand_root(self) -> None:
        """Tell an absent object from an absent disk: an unmounted root is an empty folder, or none."""
        try:
            (self._root / _MARKER).stat()
        except OSError as error:
            raise ObjectStoreUnavailableError(
                f"{str(self._root)!r} is not an object store now: {_MARKER!r} is not in it"
            ) from error

    def _metadata(self, key: str) -> dict[str, str]:
        try:
            document = json.loads(self._sidecar(key).read_bytes())
            return {str(name): str(value) for name, value in document["metadata"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ObjectDamagedError(f"metadata of {key!r} is damaged: {error}", key=key) from error

    def _scan(self, folder: str, prefix: str, start_after: str) -> Sequence[_Listed]:
        """Return what a folder holds of the keys wanted, in key order."""
        listed: list[_Listed] = []
        with self.translated(folder):
            if not folder:
                self._demand_root()
            try:
                entries = list(os.scandir(self._root / folder))
            except FileNotFoundError:
                self._demand_root()
                return []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                key = folder + entry.name
                if entry.is_dir():
                    key += "/"
                    if _may_hold(key, prefix, start_after):
                        listed.append(_Listed(key, None))
                elif key.startswith(prefix) and key > start_after:
                    with suppress(FileNotFoundError):
                        listed.append(_Listed(key, _info(key, entry.stat(), self._metadata(key))))
        return sorted(listed, key=lambda found: found.key)

    def _sidecar(self, key: str) -> Path:
        folder, _, name = key.rpartition("/")
        # The dot keeps the metadata of "a" apart from a folder for the keys under "a.json".
        return self._root / _METADATA / folder / f".{name}.json"

    @contextmanager
    def translated(self, key: str) -> Iterator[None]:
        """Turn the disk's refusals into the store's errors."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise ObjectStoreFullError(f"no room for {key!r} in {str(self._root)!r}: {error}") from error
            raise ObjectStoreUnavailableError(f"{str(self._root)!r} refused {key!r}: {error}") from error


def _etag(found: os.stat_result) -> str:
    return f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"


def _info(key: str, found: os.stat_result, metadata: Mapping[str, str]) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=found.st_size,
        etag=_etag(found),
        metadata=metadata,
        modified_ms=found.st_mtime_ns // 1_000_000,
    )


def _may_hold(folder: str, prefix: str, start_after: str) -> bool:
    """Whether a folder (its key ends with "/") can hold a key that is wanted."""
    wanted = folder.startswith(prefix) or prefix.startswith(folder)
    return wanted and (folder > start_after or start_after.startswith(folder))
