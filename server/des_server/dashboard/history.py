"""What a node did in the last hours, kept in memory: a sample every few seconds, the oldest going first."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Final

SAMPLES_MAX: Final = 720
STEP_S: Final = 10.0
"""720 samples of 10 seconds: two hours."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Sums since the start of the process, and a backlog."""

    put_files: int
    put_bytes: int
    get_files: int
    get_bytes: int
    backlog_files: float
    """Not a sum: what waits for a seal now."""
    backlog_bytes: float


LEVELS: Final = frozenset({"backlog_files", "backlog_bytes"})
"""Shown as they are; the others as a rate."""


class History:
    """The samples of one node."""

    def __init__(self, read: Callable[[], Counters], samples_max: int = SAMPLES_MAX) -> None:
        self._read = read
        self._samples: deque[tuple[int, Counters]] = deque(maxlen=samples_max + 1)

    def sample(self, now_ms: int) -> None:
        """Take a sample. One that is not later than the last replaces nothing and is not kept."""
        if not self._samples or now_ms > self._samples[-1][0]:
            self._samples.append((now_ms, self._read()))

    def as_json(self) -> dict[str, list[float]]:
        """Return the times, UTC milliseconds, and for each a value of every series, rates per second."""
        told: dict[str, list[float]] = {"at_ms": []}
        for field in fields(Counters):
            told[field.name] = []
        for (before_ms, before), (now_ms, now) in self._steps():
            told["at_ms"].append(now_ms)
            seconds = (now_ms - before_ms) / 1000
            for field in fields(Counters):
                value = getattr(now, field.name)
                if field.name not in LEVELS:
                    value = max(0.0, (value - getattr(before, field.name)) / seconds)
                told[field.name].append(round(value, 2))
        return told

    def _steps(self) -> Iterator[tuple[tuple[int, Counters], tuple[int, Counters]]]:
        samples = list(self._samples)
        return pairwise(samples)
