"""Bringing a long file to the device while it is still being written."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

SYNC_EVERY: Final = 1 << 24
"""Bytes from which a sync is worth its system call."""


class WriteBehind:
    """Syncs what was written on a thread of its own, so that the last sync finds little left to do.

    Without it a container of a GiB leaves a GiB of unwritten pages behind, and the device idle until the end.
    It promises nothing: the last sync is its owner's. A file shorter than `SYNC_EVERY` starts no thread.
    """

    def __init__(self, descriptor: int) -> None:
        """Follow the writing to a file that stays the caller's to sync and close."""
        self._descriptor = descriptor
        self._unsynced = 0
        self._worker: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None

    def wrote(self, size: int) -> None:
        """Take note of `size` more bytes; never waits.

        Raises:
            OSError: an earlier sync failed, and what was written is worth nothing.
        """
        self._unsynced += size
        if self._unsynced < SYNC_EVERY:
            return
        if self._running is not None:
            if not self._running.done():
                return
            self._running.result()
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="des-write-behind")
        self._unsynced = 0
        self._running = self._worker.submit(os.fdatasync, self._descriptor)

    def close(self) -> None:
        """End the thread. Twice is once.

        Raises:
            OSError: a sync failed. The kernel says so once, so the owner's own sync would not.
        """
        worker, self._worker = self._worker, None
        running, self._running = self._running, None
        if worker is not None:
            worker.shutdown()
        if running is not None:
            running.result()
