"""Objects being written to a local directory: files that nobody sees, until they have a name."""

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from des.storage.object_store import ObjectInfo, UploadOverError

if TYPE_CHECKING:
    from des.storage.local import LocalObjectStore


class Incoming:
    """A file that nobody sees, written front to back; locked so that its age never condemns it."""

    def __init__(self, folder: Path) -> None:
        self._descriptor, path = tempfile.mkstemp(prefix="object-", dir=folder)
        self.path = Path(path)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def write(self, data: bytes) -> None:
        """Append `data` whole."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self, now_ms: int) -> None:
        """Date the file, and return when all of it is on the device.

        The file system's own date may be the same for milliseconds, and an inode is soon used again: the
        random part below a millisecond keeps the etag of an object made anew from being the old one's.
        """
        dated_ns = now_ms * 1_000_000 + secrets.randbelow(1_000_000)
        os.utime(self._descriptor, ns=(dated_ns, dated_ns))
        os.fsync(self._descriptor)

    def discard(self) -> None:
        """Remove the file's own name; a link made of it stays. Safe twice."""
        if self._descriptor < 0:
            return
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1


class LocalUpload:
    """Writes go to a thread one at a time; after an error every call but `abort` raises."""

    def __init__(
        self, store: "LocalObjectStore", key: str, metadata: Mapping[str, str], incoming: Incoming
    ) -> None:
        self._store = store
        self._key = key
        self._metadata = metadata
        self._incoming: Incoming | None = incoming
        self._lock = Lock()
        """A call cancelled while its thread runs must not meet the next one."""

    async def write(self, data: bytes) -> None:
        """See `ObjectUpload.write`."""
        await self._store.in_thread(self._write, data)

    async def finish(self) -> ObjectInfo:
        """See `ObjectUpload.finish`."""
        return await self._store.in_thread(self._finish)

    async def abort(self) -> None:
        """See `ObjectUpload.abort`."""
        await self._store.in_thread(self._drop)

    def _write(self, data: bytes) -> None:
        with self._lock, self._dropped_on_error(), self._store.translated(self._key):
            self._open().write(data)

    def _finish(self) -> ObjectInfo:
        with self._lock, self._dropped_on_error():
            info = self._store.publish(self._open(), self._key, self._metadata)
            self._incoming = None
            return info

    def _drop(self) -> None:
        with self._lock:
            self._discard()

    def _discard(self) -> None:
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None

    @contextmanager
    def _dropped_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._discard()
            raise

    def _open(self) -> Incoming:
        if self._incoming is None:
            raise UploadOverError(f"upload of {self._key!r} is over")
        return self._incoming


def remove_leftovers(folder: Path, oldest_ms: int) -> int:
    """Remove files of uploads that died; return how many. A file being written is locked by its writer."""
    removed = 0
    for leftover in folder.iterdir():
        with suppress(FileNotFoundError, BlockingIOError):
            if leftover.stat().st_mtime_ns // 1_000_000 < oldest_ms:
                with leftover.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    leftover.unlink()
                    removed += 1
    return removed
