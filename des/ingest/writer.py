"""The blocking half of the log: one group in, one write, one sync. Called by one thread at a time."""

import contextlib
import errno
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from des.config.settings import LogSettings
from des.ingest.errors import LogFullError
from des.ingest.live import LiveSegment
from des.ingest.record import END_SIZE, Draft, encode, end_draft
from des.ingest.segment import HEADER_SIZE, SegmentHeader, file_name
from des.monitoring.log_fill import LogFill
from des.storage.disk import Disk, DiskFile

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK_SEGMENTS_MIN: Final = 4
"""The disk makes no log smaller: sealing one that holds less makes little room, and many objects."""
URGENT_SEGMENT_BYTES: Final = 1 << 20
"""Length of a segment made when the log is full, for the records without which it stays full."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Where a group went. Everything in it is on the device."""

    segment: LiveSegment
    first_seq: int
    offsets: list[int]
    """Of each record's data in the segment."""


def write_all(file: DiskFile, buffers: list[bytes], offset: int) -> int:
    """Write the buffers one after the other, however few bytes a call takes; return where they end.

    Raises:
        OSError: the device refused, or took nothing.
    """
    index = 0
    while index < len(buffers):
        taken = file.pwrite(buffers[index:] if index else buffers, offset)
        if taken <= 0:
            raise OSError(errno.EIO, f"the device took {taken} bytes")
        offset += taken
        while index < len(buffers) and taken >= len(buffers[index]):
            taken -= len(buffers[index])
            index += 1
        if taken:
            buffers[index] = buffers[index][taken:]
    return offset


def end_segment(file: DiskFile, *, salt: int, seq: int, prev_crc: int, time_ms: int, offset: int) -> int:
    """Write the END record at `offset`, cut the file behind it and sync; return the new length."""
    head, _ = encode(end_draft(), seq=seq, group=seq, time_ms=time_ms, prev_crc=prev_crc, salt=salt)
    stop = write_all(file, [head], offset)
    file.truncate(stop)
    file.sync()
    return stop


class SegmentWriter:
    """Appends groups to the active segment and opens the next one when it is full."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        *,
        node: UUID,
        boot_epoch: int,
        settings: LogSettings,
        salt: Callable[[], int],
        next_number: int,
        next_seq: int,
        disk_share: float,
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._node = node
        self._boot_epoch = boot_epoch
        self._salt = salt
        self._next_number = next_number
        self.next_seq = next_seq
        self._segment_bytes = int(settings.segment_bytes)
        self._reserve_free_bytes = int(settings.reserve_free_bytes)
        self._disk_share = disk_share
        self.disk_max = sys.maxsize
        """Disk the log could take when a segment was last to be made; `LogFill.disk_max`."""
        self._active: LiveSegment | None = None
        self._last_crc = 0

    def commit(self, drafts: Sequence[Draft], *, time_ms: int, fill: LogFill, urgent: bool) -> Committed:
        """Write the drafts as one group and return when they are on the device.

        `urgent` groups may use the room that is kept free for them.

        Raises:
            LogFullError: there is no room for another segment or record; nothing was written.
            OSError: what is on the device is unknown; nothing may be written after this.
        """
        if not urgent and fill.records + len(drafts) > fill.records_max:
            raise LogFullError(
                f"the ingest log holds {fill.records} records, {len(drafts)} more would exceed the "
                f"{fill.records_max} that log.records_max allows; sealing makes room",
                free_bytes=max(0, fill.bytes_max - fill.bytes_used),
                needed_bytes=sum(draft.size for draft in drafts),
            )
        needed = sum(draft.size for draft in drafts) + END_SIZE
        if self._active is not None and self._active.stop + needed > self._active.allocated:
            self._plan_segment(needed, fill=fill, urgent=urgent)  # refuse before closing this one
            self.end(time_ms)
        if self._active is None:
            size = self._plan_segment(needed, fill=fill, urgent=urgent)
            self._active = self._start_segment(size)
        segment = self._active
        buffers, offsets, next_seq, last_crc = self._encode(segment, drafts, time_ms)
        stop = write_all(segment.file, buffers, segment.stop)
        segment.file.sync()
        first_seq = self.next_seq
        segment.stop, self.next_seq, self._last_crc = stop, next_seq, last_crc
        return Committed(segment, first_seq, offsets)

    @property
    def room_bytes(self) -> int:
        """What still fits into the active segment; 0 where there is none."""
        segment = self._active
        return 0 if segment is None else max(0, segment.allocated - segment.stop - END_SIZE)

    def end(self, time_ms: int) -> None:
        """Close the active segment in order, if there is one.

        Raises:
            OSError: as for `commit`.
        """
        segment = self._active
        if segment is None:
            return
        segment.stop = segment.allocated = end_segment(
            segment.file,
            salt=segment.header.salt,
            seq=self.next_seq,
            prev_crc=self._last_crc,
            time_ms=time_ms,
            offset=segment.stop,
        )
        self.next_seq += 1
        self._active = None

    def _encode(
        self, segment: LiveSegment, drafts: Sequence[Draft], time_ms: int
    ) -> tuple[list[bytes], list[int], int, int]:
        seq = group = self.next_seq
        last_crc, salt, offset = self._last_crc, segment.header.salt, segment.stop
        buffers: list[bytes] = []
        offsets: list[int] = []
        for draft in drafts:
            head, last_crc = encode(
                draft, seq=seq, group=group, time_ms=time_ms, prev_crc=last_crc, salt=salt
            )
            buffers.append(head)
            offset += len(head)
            offsets.append(offset)
            if draft.data:
                buffers.append(draft.data)
                offset += len(draft.data)
            seq += 1
        return buffers, offsets, seq, last_crc

    def _plan_segment(self, needed: int, *, fill: LogFill, urgent: bool) -> int:
        """Return the length of the next segment, or refuse to have one."""
        if urgent:
            return max(URGENT_SEGMENT_BYTES, HEADER_SIZE + needed)
        size = max(self._segment_bytes, HEADER_SIZE + needed)
        if fill.bytes_used + size > fill.bytes_max:
            raise LogFullError(
                f"the ingest log uses {fill.bytes_used} bytes, another segment of {size} would exceed its "
                f"budget of {fill.bytes_max}",
                free_bytes=max(0, fill.bytes_max - fill.bytes_used),
                needed_bytes=size,
            )
        free = self._disk.free_bytes()
        room = int(self._disk_share * (fill.bytes_used + free - self._reserve_free_bytes))
        self.disk_max = max(room, DISK_SEGMENTS_MIN * self._segment_bytes)
        if fill.bytes_used + size > self.disk_max:
            raise LogFullError(
                f"the ingest log uses {fill.bytes_used} bytes and {free} bytes of disk are free, another "
                f"segment of {size} would leave too little to seal what it holds",
                free_bytes=free,
                needed_bytes=size,
            )
        if free - size < self._reserve_free_bytes:
            raise LogFullError(
                f"{free} bytes of disk are free, another segment of {size} would leave less than the "
                f"reserve of {self._reserve_free_bytes}",
                free_bytes=free,
                needed_bytes=size + self._reserve_free_bytes,
            )
        return size

    def _start_segment(self, size: int) -> LiveSegment:
        """Make the next segment and return it when its header and its name are on the device."""
        header = SegmentHeader(
            self._node, self._boot_epoch, self._next_number, self.next_seq, self._salt() & 0xFFFF_FFFF
        )
        path = f"{self._directory}/{file_name(self._boot_epoch, self._next_number)}"
        try:
            file = self._create(path, header, size)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise LogFullError(
                f"the disk has no room for a segment of {size} bytes: {error.strerror}",
                free_bytes=self._disk.free_bytes(),
                needed_bytes=size,
            ) from error
        self._next_number += 1
        self._last_crc = header.crc
        return LiveSegment(header, path, file, stop=HEADER_SIZE, allocated=size)

    def _create(self, path: str, header: SegmentHeader, size: int) -> DiskFile:
        file = self._disk.create(path)
        try:
            file.allocate(size)
            write_all(file, [header.encode()], 0)
            file.sync()
            self._disk.sync_directory(self._directory)
        except OSError:
            file.close()
            with contextlib.suppress(OSError):  # a header without records is removed by the next start
                self._disk.remove(path)
            raise
        return file
