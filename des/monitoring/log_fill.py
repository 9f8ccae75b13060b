"""How full a log is: of disk, and of records, each of which costs memory."""

import sys
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
    disk_max: int = sys.maxsize
    """Disk it could take when that was last looked at: what it has, and what is free beyond the reserve."""

    @property
    def bytes_limit(self) -> int:
        """The smaller of what its budget and what the disk allow."""
        return min(self.bytes_max, self.disk_max)

    @property
    def fullness(self) -> float:
        """The fuller of both, as a share; above 1 only by what may go beyond the limits.

        >>> LogFill(bytes_used=10, bytes_max=100, records=3, records_max=4).fullness
        0.75
        """
        return max(self.bytes_used / self.bytes_limit, self.records / self.records_max)

    def share(self, *, records: int, data_bytes: int) -> float:
        """Return how much emptier the log would be without so many records of so many bytes together."""
        return max(data_bytes / self.bytes_limit, records / self.records_max)
