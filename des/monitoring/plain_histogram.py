"""A histogram in plain numbers, for what one thread counts often: Prometheus's own takes a lock each time."""

from bisect import bisect_left
from collections.abc import Sequence


class PlainHistogram:
    """Counts values by the bucket they fall in."""

    __slots__ = ("_ends", "count", "sum", "within")

    def __init__(self, ends: Sequence[float]) -> None:
        """Take the upper ends of the buckets, ascending; a last bucket takes all that is larger."""
        self._ends = tuple(ends)
        self.within = [0] * (len(ends) + 1)
        """Values by bucket."""
        self.sum = 0.0
        self.count = 0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.sum += value
        self.count += 1
        self.within[bisect_left(self._ends, value)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Return the buckets as Prometheus shows them: each with all that is in those before it."""
        total = 0
        shown = []
        for end, count in zip((*map(str, self._ends), "+Inf"), self.within, strict=True):
            total += count
            shown.append((end, float(total)))
        return shown
