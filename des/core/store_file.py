"""An object of a store read by place, as if it were a local file."""

import threading
from collections.abc import Iterator
from typing import Final, TypeVar

from des.core.byte_source import PIECE_SIZE
from des.core.loop_thread import LoopThread
from des.format.byte_range import ByteRange
from des.format.errors import CorruptContainerError
from des.format.plan import TAIL_SIZE
from des.format.reads import Reads, run
from des.storage.object_store import RangedObjects

T = TypeVar("T")

AHEAD_MAX: Final = 8 << 20
"""Bytes read at once where reads follow each other."""


class StoreFile:
    """One object, pinned to its etag. Safe for threads.

    The first request brings its size and its last 64 KiB, which are kept. A read that goes on where the last
    request ended, or near, fetches twice as much as that one did, up to 8 MiB, so that passing over an object
    costs few requests; any other read fetches what it is asked for.
    """

    def __init__(self, store: RangedObjects, key: str, *, name: str, loop: LoopThread) -> None:
        """Open the object.

        Raises:
            NoSuchObjectError: there is none.
            UnavailableError: the store did not answer.
        """
        self.key: Final = key
        self.requests = 1
        self._name = name
        self._store = store
        self._loop = loop
        self._lock = threading.Lock()
        info, tail = loop.wait(store.get_tail(key, TAIL_SIZE))
        self.etag: Final = info.etag
        self._size = info.size
        self._tail = (info.size - len(tail), tail)
        self._held = (0, b"")

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read(self, wanted: ByteRange) -> bytes:
        """Return exactly the bytes of `wanted`.

        Raises:
            CorruptContainerError: the object ends before.
            ObjectChangedError: it is another object by now.
            UnavailableError: the store did not answer.
        """
        if wanted.stop > self._size:
            raise CorruptContainerError(
                f"{self._name!r} ends at {self._size}, expected at least {wanted.stop} bytes"
            )
        with self._lock:
            for start, data in (self._tail, self._held):
                if start <= wanted.start and wanted.stop <= start + len(data):
                    return data[wanted.start - start : wanted.stop - start]
            fetched = self._fetch(wanted)
            return fetched[: wanted.size]

    def drive(self, plan: Reads[T]) -> T:
        """Run a plan over the object."""
        return run(plan, self.read)

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes `[start, stop)` in order, a MiB at a time."""
        for low in range(start, stop, PIECE_SIZE):
            yield self.read(ByteRange(low, min(low + PIECE_SIZE, stop)))

    def close(self) -> None:
        """Forget what is held; store and loop are the caller's."""
        self._held = (0, b"")

    def _fetch(self, wanted: ByteRange) -> bytes:
        """Return the bytes from the start of `wanted` to its end, or further."""
        start, data = self._held
        stop = wanted.stop
        goes_on = data and start <= wanted.start <= start + len(data) + TAIL_SIZE
        if goes_on:
            ahead = min(max(2 * len(data), TAIL_SIZE), AHEAD_MAX)
            stop = min(max(stop, wanted.start + ahead), self._size)
        self.requests += 1
        fetched = self._loop.wait(self._store.get_range(self.key, wanted.start, stop, etag=self.etag))
        self._held = (wanted.start, fetched)
        return fetched
