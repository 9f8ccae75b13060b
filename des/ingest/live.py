"""A segment while the node runs: its file, what pins it, who reads it."""

from dataclasses import dataclass, field

from des.ingest.segment import SegmentHeader
from des.storage.disk import DiskFile


@dataclass(slots=True, eq=False)
class LiveSegment:
    """One segment of an open log."""

    header: SegmentHeader
    path: str
    file: DiskFile
    stop: int
    """One past its last record."""
    allocated: int
    """Bytes it takes on the disk."""
    pinned: bytearray = field(default_factory=bytearray)
    """One byte per record: 1 while it is a file that no container holds yet."""
    pins: int = 0
    """Records so pinned, and blocks that a file or a running upload needs."""
    unpinned_at: float = 0.0
    """Monotonic time of the last unpin; means something only while `pins` is 0."""
    readers: int = 0
    retired: bool = False
    """Closed as soon as nobody reads."""

    @property
    def number(self) -> int:
        """Segment number."""
        return self.header.number

    def unpin(self, now: float) -> None:
        """Take one pin off."""
        self.pins -= 1
        self.unpinned_at = now

    def unpin_record(self, seq: int, now: float) -> bool:
        """Take a file's own pin off; False when it was off already, or in a damaged log never on."""
        index = seq - self.header.first_seq
        if not 0 <= index < len(self.pinned) or not self.pinned[index]:
            return False
        self.pinned[index] = 0
        self.unpin(now)
        return True

    def retire(self) -> None:
        """Close the file, now or when the last reader leaves."""
        self.retired = True
        if not self.readers:
            self.file.close()

    def reader_left(self) -> None:
        """Count a reader out."""
        self.readers -= 1
        if self.retired and not self.readers:
            self.file.close()
