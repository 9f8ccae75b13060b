"""Reading a segment's records from its first byte on, and judging where they stop. Acts on nothing.

Records are believed in order and one by one: header checksum before lengths, sequence number and
predecessor's checksum before content. Behind the first record that fails, nothing is ever revived;
what lies there is only looked at to tell a torn tail from damage (docs/log.md, section 5).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import google_crc32c

from des.ingest import record
from des.ingest.record import HEADER, Kind, LogVersionError, RecordError
from des.ingest.segment import HEADER_SIZE, SegmentHeader
from des.ingest.values import Deletion, Extent, OpenFile, Sealing

Read: TypeAlias = Callable[[int, int], bytes]
"""`read(size, offset)`: up to `size` bytes, fewer only at the end of the file."""

WINDOW: Final = 16 << 20
"""Bytes of one read while scanning."""
assert WINDOW > record.HEADER_SIZE + record.NAME_MAX + record.TEXT_MAX + record.SEALING_DATA_MAX


@dataclass(slots=True)
class Found:
    """What records say, over all segments."""

    files: list[OpenFile] = field(default_factory=list)
    blocks: dict[tuple[int, int], Extent] = field(default_factory=dict)
    """BLOCK records by segment and data offset."""
    sealings: dict[str, Sealing] = field(default_factory=dict)
    """By container id, in the order of the log."""
    deleted: list[Deletion] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    """Container ids."""
    floor_ms: int = 0
    floor_segment: int = 0
    """Segment that holds the floor."""


@dataclass(slots=True)
class Scan:
    """How far the records of one segment go."""

    header: SegmentHeader
    stop: int
    """One past the last valid record."""
    next_seq: int
    """One past the last valid record's number."""
    last_crc: int
    """Header checksum of the last valid record: what the next one names as its predecessor."""
    ended: bool = False
    """Whether the last record is an END."""
    cause: str = ""
    """Why the record at `stop` is not valid; empty when the segment ended."""
    broken: bool = False
    """The record at `stop` has valid checksums and breaks the format: damage, never a torn tail."""
    files: bytearray = field(default_factory=bytearray)
    """One byte per record: 1 for a FILE or DELETE, which pin their segment."""


def scan_segment(read: Read, header: SegmentHeader, found: Found) -> Scan:
    """Read the records of a segment into `found`.

    Raises:
        LogVersionError: a record is valid and of a kind, flag or length this version does not know.
    """
    scan = Scan(header, HEADER_SIZE, header.first_seq, header.crc)
    try:
        _scan(read, header, found, scan)
    except RecordError as error:
        scan.cause, scan.broken = str(error), True
    return scan


def _scan(read: Read, header: SegmentHeader, found: Found, scan: Scan) -> None:
    # One loop over locals: a start reads millions of records, and every call here is paid that often.
    extend, value, unpack_from = google_crc32c.extend, google_crc32c.value, HEADER.unpack_from
    header_size, summed_size = record.HEADER_SIZE, record.SUMMED
    add_file, add_kind, limits = found.files.append, scan.files.append, record.DATA_LIMITS
    segment, salt, seq, last_crc, last_group = header.number, header.salt, header.first_seq, header.crc, 0
    start, buffer = HEADER_SIZE, read(WINDOW, HEADER_SIZE)
    at = 0
    facts = b""
    last_time = time_ms = last_day = day = 0
    while True:
        if at + header_size > len(buffer):
            start, at, buffer = start + at, 0, read(WINDOW, start + at)
            if len(buffer) < header_size:
                scan.cause = "the segment ends without an END record"
                return
        (
            magic,
            kind,
            flags,
            name_len,
            text_len,
            data_len,
            record_seq,
            group,
            time_ms,
            day,
            shard,
            prev_crc,
            data_crc,
            text_crc,
            header_crc,
        ) = unpack_from(buffer, at)
        if magic != record.MAGIC:
            scan.cause = f"record magic is {magic:#010x}, expected {record.MAGIC:#010x}"
            return
        if extend(salt, buffer[at : at + summed_size]) != header_crc:
            scan.cause = "record header does not match its checksum"
            return
        if record_seq != seq or prev_crc != last_crc or not last_group <= group <= seq:
            scan.cause = f"record {record_seq} of group {group} stands where record {seq} is due"
            return
        if kind not in record.KINDS or flags & ~record.FLAGS:
            raise LogVersionError(
                f"record {seq} of segment {segment} is of kind {kind} with flags {flags:#x}, which this "
                "version does not know: a newer version wrote it"
            )
        if name_len > record.NAME_MAX or text_len > record.TEXT_MAX or data_len > limits[kind]:
            raise LogVersionError(
                f"record {seq} of segment {segment} has {name_len}, {text_len} and {data_len} bytes, more "
                "than this version allows: a newer version wrote it"
            )
        text_at = at + header_size + name_len
        data_at = text_at + text_len
        stop = data_at + data_len
        if stop > len(buffer):
            start, at, buffer = start + at, 0, read(WINDOW, start + at)
            text_at = header_size + name_len
            data_at = text_at + text_len
            stop = data_at + data_len
            if stop > len(buffer):
                scan.cause = f"the segment ends inside record {seq}"
                return
        if extend(salt, buffer[at + header_size : data_at]) != text_crc:
            scan.cause = f"name and text of record {seq} do not match their checksum"
            return
        if value(buffer[data_at:stop]) != data_crc:
            scan.cause = f"data of record {seq} do not match their checksum"
            return

        if kind == Kind.FILE:
            name = _text(buffer[at + header_size : text_at])
            # Neighbours mostly share these; one object instead of many is what keeps a start small.
            if time_ms == last_time:
                time_ms = last_time
            if day == last_day:
                day = last_day
            last_time, last_day = time_ms, day
            text = buffer[text_at:data_at]
            if flags:
                size, crc32c, blocks, own = record.decode_outside(text)
                add_file(OpenFile(name, day, shard, seq, time_ms, size, crc32c, own, segment, 0, blocks))
            else:
                facts = facts if facts == text else text
                offset = start + data_at if data_len else 0
                add_file(OpenFile(name, day, shard, seq, time_ms, data_len, data_crc, facts, segment, offset))
            add_kind(1)
        else:
            add_kind(1 if kind == Kind.DELETE else 0)
            name = _text(buffer[at + header_size : text_at])
            text, data = buffer[text_at:data_at], buffer[data_at:stop]
            if kind == Kind.BLOCK:
                offset = start + data_at
                found.blocks[segment, offset] = Extent(segment, offset, data_len, data_crc)
            elif kind == Kind.CLOCK_FLOOR:
                found.floor_ms = max(found.floor_ms, record.decode_floor(data))
                found.floor_segment = segment
            elif kind == Kind.SEALING:
                found.sealings[name] = record.decode_sealing(name, text, data)
            elif kind == Kind.DELETE:
                found.deleted.append(Deletion(name, day, shard, seq, time_ms, segment, _text(text)))
            elif kind == Kind.STORED:
                found.stored.add(name)
        seq += 1
        last_crc, last_group = header_crc, group
        at = stop
        scan.stop, scan.next_seq, scan.last_crc = start + stop, seq, header_crc
        if kind == Kind.END:
            scan.ended = True
            return


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"name of a record is not UTF-8: {error}") from error


def later_group(read: Read, scan: Scan) -> int | None:
    """Return the group of a record behind `scan.stop` that proves that the stop is damage, or None.

    Only one group is ever in flight, and a group's number is that of its first record. So a header of
    this segment with a group above `next_seq` was written after the record due at `stop` had been
    synced, and that record is damaged; without one, the tail is torn.
    """
    salt, due = scan.header.salt, scan.next_seq
    start = scan.stop
    while len(buffer := read(WINDOW, start)) >= record.HEADER_SIZE:
        at = buffer.find(record.MAGIC_BYTES)
        while 0 <= at <= len(buffer) - record.HEADER_SIZE:
            fields = HEADER.unpack_from(buffer, at)
            seq, group = fields[6], fields[7]
            if due < group <= seq and fields[-1] == google_crc32c.extend(
                salt, buffer[at : at + record.SUMMED]
            ):
                return int(group)
            at = buffer.find(record.MAGIC_BYTES, at + 1)
        start += len(buffer) - record.HEADER_SIZE + 1
    return None


def all_zero(read: Read, start: int) -> bool:
    """Whether a file holds nothing but zeros from `start` on."""
    while buffer := read(WINDOW, start):
        if buffer.count(0) != len(buffer):
            return False
        start += len(buffer)
    return True
