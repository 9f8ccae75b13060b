"""One thread that cancels the blocking streams of a client when they fall silent.

gRPC's own deadline is a total that must be fixed before a stream begins; a download does not know its
size by then. Adding and removing a stream costs a lock and no wake-up of the thread.
"""

import math
import threading
import time
from collections.abc import Callable


class Watched:
    """One stream; whoever moves it along moves `deadline_at`."""

    __slots__ = ("_cancel", "deadline_at", "expired")

    def __init__(self, cancel: Callable[[], object], deadline_at: float) -> None:
        self._cancel = cancel
        self.deadline_at = deadline_at
        """On the monotonic clock."""
        self.expired = False
        """True once it was cancelled for being late."""

    def expire(self) -> None:
        """Cancel it."""
        self.expired = True
        self._cancel()


class Watchdog:
    """Looks after any number of streams from one thread, which starts with the first of them."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._watched: set[Watched] = set()
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, cancel: Callable[[], object], deadline_at: float) -> Watched:
        """Watch a stream until `remove`."""
        watched = Watched(cancel, deadline_at)
        with self._condition:
            self._watched.add(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="des-client-watchdog", daemon=True)
                self._thread.start()
            elif deadline_at < self._wakes_at:
                self._condition.notify()
        return watched

    def remove(self, watched: Watched) -> None:
        """Stop watching; may be called for one that expired."""
        with self._condition:
            self._watched.discard(watched)

    def close(self) -> None:
        """End the thread. Streams still watched are left alone."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                if self._closed:
                    return
                now = time.monotonic()
                late = [one for one in self._watched if one.deadline_at <= now]
                self._watched.difference_update(late)
                if not late:
                    self._wakes_at = min((one.deadline_at for one in self._watched), default=math.inf)
                    self._condition.wait(None if self._wakes_at == math.inf else self._wakes_at - now)
            for one in late:
                one.expire()
