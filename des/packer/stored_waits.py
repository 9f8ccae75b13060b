"""The files on their way to the object store, and who waits for each of them."""

import asyncio
from collections import deque
from collections.abc import Iterable

from des.errors import DesError, UnavailableError
from des.ingest.values import OpenFile


class StoredWaits:
    """A queue of files, each with a future that ends when it is settled. For one event loop.

    A file that was taken from the queue is still on its way until it is settled.
    """

    def __init__(self) -> None:
        self._queue: deque[OpenFile] = deque()
        self._futures: dict[int, asyncio.Future[None]] = {}
        """By sequence number of the file."""
        self._ended: UnavailableError | None = None
        """Why nothing is sent any more; None while it is."""
        self.work = asyncio.Event()
        """There may be something to send."""

    def __len__(self) -> int:
        """Return how many files are on their way."""
        return len(self._futures)

    def __contains__(self, file: OpenFile) -> bool:
        return file.seq in self._futures

    def enter(self, file: OpenFile) -> "asyncio.Future[None]":
        """Send a file on its way; return what ends with it. Twice is once."""
        waiting = self._futures.get(file.seq)
        if waiting is None:
            waiting = asyncio.get_running_loop().create_future()
            if self._ended is not None:
                waiting.set_exception(self._ended)
                return waiting
            self._futures[file.seq] = waiting
            self._queue.append(file)
            self.work.set()
        return waiting

    def settle(self, file: OpenFile, error: DesError | None = None) -> None:
        """End a file's way: it is stored, or `error` says why it will not be. Twice is once."""
        waiting = self._futures.pop(file.seq, None)
        if waiting is not None:
            _end(waiting, error)

    def first(self) -> OpenFile | None:
        """Return the file whose turn it is, and leave it in the queue; None where there is none."""
        while self._queue:
            if self._queue[0].seq in self._futures:
                return self._queue[0]
            self._queue.popleft()  # settled meanwhile
        return None

    def take(self) -> OpenFile:
        """Take the file whose turn it is."""
        return self._queue.popleft()

    def put_back(self, files: Iterable[OpenFile]) -> None:
        """Put files that were taken, in order, before all others."""
        self._queue.extendleft(reversed(list(files)))

    def postpone(self, file: OpenFile) -> None:
        """Put a file that was taken behind all others."""
        self._queue.append(file)

    def begin(self) -> None:
        """Let files enter."""
        self._ended = None

    def end(self, error: UnavailableError) -> None:
        """Settle every file with `error`, and those that want to enter from now on."""
        self._ended = error
        for waiting in self._futures.values():
            _end(waiting, error)
        self._futures.clear()


def _end(waiting: "asyncio.Future[None]", error: DesError | None) -> None:
    if waiting.done():
        return
    if error is None:
        waiting.set_result(None)
    else:
        waiting.set_exception(error)
        waiting.exception()  # its caller may have given up
