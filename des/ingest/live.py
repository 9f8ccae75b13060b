"""The segments of an open log: their files, what pins each of them, who reads it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from des.clock import Clock
from des.ingest.errors import LogRecordGoneError
from des.ingest.segment import SegmentHeader
from des.ingest.values import Deletion, Extent, OpenFile
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


class LiveSegments:
    """The segments of one open log, by number, and whether anything still needs them.

    A file pins the segment of its record and those of its blocks, a block that no file has taken its own,
    a deletion the segment of its record.
    """

    def __init__(self, recovered: Mapping[int, LiveSegment], *, clock: Clock, reclaim_delay_s: float) -> None:
        self._clock = clock
        self._reclaim_delay_s = reclaim_delay_s
        self._by_number = dict(recovered)
        self.loose: set[Extent] = set()
        """Blocks that no file has taken yet."""
        now = clock.monotonic()
        for segment in self._by_number.values():
            segment.unpinned_at = now

    @property
    def allocated(self) -> int:
        """Bytes of the disk that they take, reserved room included."""
        return sum(segment.allocated for segment in self._by_number.values())

    @property
    def oldest(self) -> LiveSegment | None:
        """The one with the lowest number; None where there is none."""
        return self._by_number[min(self._by_number)] if self._by_number else None

    def find(self, number: int) -> LiveSegment:
        """Return a segment that can be read.

        Raises:
            LogRecordGoneError: it was reclaimed.
        """
        segment = self._by_number.get(number)
        if segment is None or segment.retired:
            raise LogRecordGoneError(f"segment {number} of the ingest log was reclaimed")
        return segment

    def add(self, segment: LiveSegment) -> None:
        """Take one that was begun. Twice is once."""
        self._by_number.setdefault(segment.number, segment)

    def drop(self, segment: LiveSegment) -> None:
        """Forget one that is no longer in the folder. Its file stays open for those who read it."""
        del self._by_number[segment.number]
        segment.retired = True

    def retire_all(self) -> None:
        """Close every file, now or when its last reader leaves."""
        for segment in self._by_number.values():
            segment.retire()

    def release_blocks(self, extents: Iterable[Extent]) -> None:
        """Take the pins of loose blocks off. Others, and twice, are fine."""
        now = self._clock.monotonic()
        for extent in extents:
            if extent in self.loose:
                self.loose.remove(extent)
                self._by_number[extent.segment].unpin(now)

    def release_deletes(self, deletions: Iterable[Deletion]) -> None:
        """Take the pins of deletions off. Twice is once."""
        now = self._clock.monotonic()
        for deletion in deletions:
            if segment := self._by_number.get(deletion.segment):
                segment.unpin_record(deletion.seq, now)

    def release_files(self, files: Iterable[OpenFile]) -> None:
        """Take the pins of files and of their blocks off. Twice is once."""
        now = self._clock.monotonic()
        for file in files:
            segment = self._by_number.get(file.segment)
            if segment is None or not segment.unpin_record(file.seq, now):
                continue
            for extent in file.blocks:
                if held := self._by_number.get(extent.segment):
                    held.unpin(now)

    def removable(self) -> LiveSegment | None:
        """Return the oldest where nothing has needed it for a while; None otherwise.

        The newest always stays: it carries the sequence on.
        """
        oldest = self.oldest
        if oldest is None or len(self._by_number) < 2:
            return None
        if oldest.pins or self._clock.monotonic() - oldest.unpinned_at < self._reclaim_delay_s:
            return None
        return oldest
