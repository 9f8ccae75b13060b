"""SHA-256 of a stream, computed beside the work that makes it."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

IN_FLIGHT_MAX: Final = 2
"""Batches handed over and not yet hashed; with the one held back this bounds memory."""


class BackgroundDigest:
    """Hashes on a thread of its own, which runs beside the writer: hashlib lets go of the interpreter.

    SHA-256 costs more than all else that is done to a long file, and a second core is often idle. One
    batch is always held back and hashed by whoever asks, so that a container of one batch starts no
    thread.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._held: Sequence[bytes] = ()
        self._worker: ThreadPoolExecutor | None = None
        self._running: list[Future[None]] = []

    def update(self, parts: Sequence[bytes]) -> None:
        """Take the next bytes; waits while `IN_FLIGHT_MAX` earlier batches are not hashed."""
        held, self._held = self._held, parts
        if not held:
            return
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="des-digest")
        while len(self._running) >= IN_FLIGHT_MAX:
            self._running.pop(0).result()
        self._running.append(self._worker.submit(_update, self._digest, held))

    def digest(self) -> bytes:
        """Return the SHA-256 of all bytes taken so far."""
        while self._running:
            self._running.pop(0).result()
        whole = self._digest.copy()
        _update(whole, self._held)
        return whole.digest()

    def close(self) -> None:
        """End the thread; what was taken can still be asked for. Safe twice."""
        if self._worker is not None:
            self._worker.shutdown()
            self._worker = None


def _update(digest: "hashlib._Hash", parts: Sequence[bytes]) -> None:
    for part in parts:
        digest.update(part)
