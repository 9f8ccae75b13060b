"""How full a log is: of disk, and of records, each of which costs memory."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogFill:
    """What a log holds and what it may hold."""

    bytes_used: int
    """Disk of its segments, reserved room included."""
    bytes_max: int
    records: int
    """From its first to its last, those that nobody needs any more included."""
    records_max: int

    @property
    def fullness(self) -> float:
        """The fuller of both, as a share; above 1 only by what may go beyond the limits.

        >>> LogFill(bytes_used=10, bytes_max=100, records=3, records_max=4).fullness
        0.75
        """
        return max(self.bytes_used / self.bytes_max, self.records / self.records_max)

    def share(self, *, records: int, data_bytes: int) -> float:
        """Return how much emptier the log would be without so many records of so many bytes together."""
        return max(data_bytes / self.bytes_max, records / self.records_max)
