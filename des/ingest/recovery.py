"""Opening a log that was left: read all of it, judge it, make its tail safe (docs/log.md, section 5).

`judge` decides over values; `recover` acts. Nothing is written while there is damage.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from des.ingest.errors import LogFailedError
from des.ingest.live import LiveSegment
from des.ingest.record import END_SIZE
from des.ingest.scan import WINDOW, Found, Scan, all_zero, later_group, scan_segment
from des.ingest.segment import (
    HEADER_SIZE,
    TEMPORARY_SUFFIX,
    SegmentHeader,
    SegmentHeaderError,
    parse_file_name,
)
from des.ingest.values import Damage, RecoveredLog
from des.ingest.writer import NO_ROOM, end_segment, write_all
from des.storage.disk import Disk, DiskFile

FIRST_NUMBER: Final = 1
FIRST_SEQ: Final = 1


@dataclass(slots=True)
class Examined:
    """One segment file and what was read from it."""

    path: str
    boot_epoch: int
    """As its name says."""
    number: int
    """As its name says."""
    size: int
    scan: Scan | None
    """None when the header is not valid."""
    header_cause: str = ""
    blank: bool = False
    """There is nothing but zeros behind the place of the header."""
    later_group: int | None = None
    """A group behind the stop that proves damage."""


@dataclass(slots=True)
class Recovery:
    """An open log's beginnings."""

    log: RecoveredLog
    segments: dict[int, LiveSegment] = field(default_factory=dict)
    next_number: int = FIRST_NUMBER
    next_seq: int = FIRST_SEQ
    floor_segment: int = 0


ROOM_NAME: Final = f"room{TEMPORARY_SUFFIX}"
"""A file that is made to see whether there is room; a start removes what a crash has left of it."""


def judge(examined: list[Examined], *, node: UUID, boot_epoch: int) -> list[Damage]:
    """Return every place where the segments, in order, are not what a crash can leave behind."""
    damage: list[Damage] = []
    before: Examined | None = None
    for segment in examined:
        last = segment is examined[-1]

        def hurt(offset: int, cause: str, number: int = segment.number) -> None:
            damage.append(Damage(number, offset, cause))

        if before and segment.number != before.number + 1:
            if segment.number == before.number:
                hurt(0, f"segment {segment.number} is there twice")
            else:
                hurt(0, f"segments {before.number + 1} to {segment.number - 1} are missing")
        if before and segment.boot_epoch < before.boot_epoch:
            hurt(0, f"start {segment.boot_epoch} made it, yet start {before.boot_epoch} the one before")
        if segment.boot_epoch > boot_epoch:
            hurt(0, f"start {segment.boot_epoch} made it, and this is start {boot_epoch}")
        scan = segment.scan
        if scan is None:
            if not (last and segment.blank):
                hurt(0, segment.header_cause)
            before = segment
            continue
        header = scan.header
        if (header.boot_epoch, header.number) != (segment.boot_epoch, segment.number):
            hurt(0, f"its header says segment {header.number} of start {header.boot_epoch}")
        if header.node != node:
            hurt(0, f"its header says node {header.node}, this is node {node}")
        if before and before.scan and header.first_seq != before.scan.next_seq:
            hurt(0, f"it starts with record {header.first_seq}, record {before.scan.next_seq} is due")
        if scan.broken or (not scan.ended and not last):
            hurt(scan.stop, scan.cause)
        elif segment.later_group is not None:
            hurt(scan.stop, f"{scan.cause}, yet group {segment.later_group} stands behind it")
        before = segment
    return damage


def recover(disk: Disk, directory: str, *, node: UUID, boot_epoch: int, time_ms: int) -> Recovery:
    """Read the log in `directory`, make its tail safe and return what it holds. Blocks.

    Raises:
        LogVersionError: a newer version wrote part of it; nothing was changed.
        LogFailedError: the disk refused; nothing was lost by trying.
    """
    opened: list[DiskFile] = []
    try:
        return _recover(disk, directory, node, boot_epoch, time_ms, opened)
    except OSError as error:
        _close(opened)
        raise LogFailedError(f"the ingest log could not be opened: {error}", cause=error) from error
    except BaseException:
        _close(opened)
        raise


def _close(files: Iterable[DiskFile]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            file.close()


def _recover(
    disk: Disk, directory: str, node: UUID, boot_epoch: int, time_ms: int, opened: list[DiskFile]
) -> Recovery:
    disk.make_directory(directory)
    names = disk.list(directory)
    places = sorted((place[::-1], name) for name in names if (place := parse_file_name(name)))
    found = Found()
    examined: list[Examined] = []
    for (number, epoch), name in places:
        file = disk.open(f"{directory}/{name}")
        opened.append(file)
        examined.append(_examine(file, f"{directory}/{name}", epoch, number, found))
    damage = judge(examined, node=node, boot_epoch=boot_epoch) + _missing_blocks(examined, found)

    log = RecoveredLog(files=found.files, deleted=found.deleted, floor_ms=found.floor_ms, damage=damage)
    log.sealings = list(found.sealings.values())
    log.pending = [sealing for key, sealing in found.sealings.items() if key not in found.stored]
    log.stored = {key: sealing for key, sealing in found.sealings.items() if key in found.stored}
    if damage:
        first = damage[0]
        log.read_only_cause = f"segment {first.segment} is damaged at {first.offset}: {first.cause}"
        if examined and examined[-1].scan:
            _write_again(opened[-1], 0, examined[-1].scan.stop)
    else:
        for name in names:
            if name.endswith(TEMPORARY_SUFFIX):
                disk.remove(f"{directory}/{name}")
        if examined:
            log.read_only_cause = _settle_tail(disk, directory, examined, opened, time_ms)
            if log.read_only_cause is not None and (scan := examined[-1].scan):
                log.room_needed_bytes = scan.stop + END_SIZE
        disk.sync_directory(directory)

    recovery = Recovery(log, floor_segment=found.floor_segment)
    for segment, file in zip(examined, opened, strict=True):
        if segment.scan is None or segment.number in recovery.segments:
            file.close()  # damaged beyond reading
        else:
            scan = segment.scan
            recovery.segments[segment.number] = LiveSegment(
                scan.header,
                segment.path,
                file,
                stop=scan.stop,
                allocated=file.size(),
                pinned=scan.files,
                pins=scan.files.count(1),
            )
            recovery.next_seq = max(recovery.next_seq, scan.next_seq)
    if examined:
        recovery.next_number = examined[-1].number + 1
    for each in log.files:
        for extent in each.blocks:
            if extent.segment in recovery.segments:
                recovery.segments[extent.segment].pins += 1
    return recovery


def _examine(file: DiskFile, path: str, boot_epoch: int, number: int, found: Found) -> Examined:
    size = file.size()
    try:
        header = SegmentHeader.decode(file.pread(HEADER_SIZE, 0))
    except SegmentHeaderError as error:
        blank = all_zero(file.pread, HEADER_SIZE)
        return Examined(path, boot_epoch, number, size, None, header_cause=str(error), blank=blank)
    scan = scan_segment(file.pread, header, found)
    segment = Examined(path, boot_epoch, number, size, scan)
    if not scan.ended:
        segment.later_group = later_group(file.pread, scan)
    return segment


def _missing_blocks(examined: list[Examined], found: Found) -> list[Damage]:
    """Return the files that name blocks which the log does not hold and has not reclaimed."""
    oldest = examined[0].number if examined else 0
    return [
        Damage(file.segment, 0, f"file {file.name!r} has bytes at {extent.segment}:{extent.offset}: no block")
        for file in found.files
        for extent in file.blocks
        if extent.segment >= oldest and found.blocks.get((extent.segment, extent.offset)) != extent
    ]


def _settle_tail(
    disk: Disk, directory: str, examined: list[Examined], opened: list[DiskFile], time_ms: int
) -> str | None:
    """Make the last segment one that ended in order; return why that could not be done, or None."""
    last, file = examined[-1], opened[-1]
    if last.scan is None or (not last.scan.ended and last.scan.stop == HEADER_SIZE):
        # Never used: its header was to be synced before the first record, and no group was.
        file.close()
        disk.remove(last.path)
        disk.sync_directory(directory)
        examined.pop()
        opened.pop()
        return None
    scan = last.scan
    if scan.ended:
        _write_again(file, scan.stop - END_SIZE, scan.stop)  # every group was synced, the END perhaps not
        return None
    temporary = last.path + TEMPORARY_SUFFIX
    try:
        copy = _copy(disk, temporary, file.pread, scan, time_ms)
    except OSError as error:
        with contextlib.suppress(OSError):
            disk.remove(temporary)
        if error.errno not in NO_ROOM:
            raise
        _write_again(file, 0, scan.stop)
        return f"no room to copy the unfinished segment {last.number}: {error}"
    opened[-1] = copy
    file.close()
    disk.rename(temporary, last.path)
    disk.sync_directory(directory)
    return None


def has_room(disk: Disk, directory: str, size: int) -> bool:
    """Return whether the disk would take a copy of `size` bytes now, by asking for the room. Blocks.

    What is free says less: quotas and reserves of the file system count, too.

    Raises:
        OSError: the disk refused for another reason.
    """
    path = f"{directory}/{ROOM_NAME}"
    try:
        file = disk.create(path)
        try:
            file.allocate(size)
        finally:
            file.close()
            disk.remove(path)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return False
    return True


def _write_again(file: DiskFile, start: int, stop: int) -> None:
    """Write a file's bytes over themselves and sync them.

    A sync that failed may have left them in memory only, marked clean, where a sync alone would pass
    them by. Written again they are dirty again; and whatever tears leaves the same bytes.
    """
    while start < stop:
        part = file.pread(min(WINDOW, stop - start), start)
        start = write_all(file, [part], start)
    file.sync()


def _copy(disk: Disk, path: str, read: Callable[[int, int], bytes], scan: Scan, time_ms: int) -> DiskFile:
    """Copy a segment's valid records to a new file, end it and sync it.

    After a failed sync the old file's pages may say one thing and the device another, and no later
    sync would tell. The copy is on the device or it is not there.
    """
    copy = disk.create(path)
    try:
        offset = 0
        while offset < scan.stop:
            part = read(min(WINDOW, scan.stop - offset), offset)
            offset = write_all(copy, [part], offset)
        scan.stop = end_segment(
            copy,
            salt=scan.header.salt,
            seq=scan.next_seq,
            prev_crc=scan.last_crc,
            time_ms=time_ms,
            offset=scan.stop,
        )
    except OSError:
        copy.close()
        raise
    scan.next_seq += 1
    scan.files.append(0)
    return copy
