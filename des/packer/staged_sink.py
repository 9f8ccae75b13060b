"""A staging file, written beside the work that makes its bytes."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from des.storage.disk import DiskFile

IN_FLIGHT_MAX: Final = 4
"""Buffers of about 1 MiB handed over and not yet written: bounds memory."""


class StagedSink:
    """A binary sink that appends to a staging file, on a thread of its own where `aside`.

    What a write failed with is raised by a later one, or by `flush`.
    """

    def __init__(self, staged: DiskFile, *, aside: bool) -> None:
        self._staged = staged
        self._offset = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="des-staging") if aside else None
        self._running: deque[Future[None]] = deque()

    def write(self, data: bytes | memoryview, /) -> int:
        """Append all of `data`, which nobody may change; nothing is copied."""
        if self._worker is None:
            self._append(data)
            return len(data)
        while len(self._running) >= IN_FLIGHT_MAX:
            self._running.popleft().result()
        self._running.append(self._worker.submit(self._append, data))
        return len(data)

    def flush(self) -> None:
        """Return when everything is in the file."""
        while self._running:
            self._running.popleft().result()

    def close(self) -> None:
        """End the thread, when what it was given is written or has failed. Twice is once."""
        if self._worker is not None:
            self._worker.shutdown()

    def _append(self, data: bytes | memoryview) -> None:
        left = memoryview(data)
        while left:
            taken = self._staged.pwrite([left], self._offset)
            self._offset += taken
            left = left[taken:]
