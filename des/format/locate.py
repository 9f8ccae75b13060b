"""From a name to its place through EXT, without INDEX as a whole (docs/format.md, sections 14 and 15)."""

from collections.abc import Generator
from typing import Final, TypeAlias

import google_crc32c

from des.format.byte_range import ByteRange
from des.format.errors import ChecksumMismatchError, UnsupportedContainerError
from des.format.footer import Footer
from des.format.hash_pages import SLOT_RAW, BadPageError, PagesGeometry, Record, find_records
from des.format.index import FLAG_EXTERNAL, BadIndexError, IndexEntry
from des.format.index_directory import GROUP_SIZE, Group, decode_group, group_range
from des.format.layout import Layout
from des.format.metadata import Metadata, check_metadata_length, decode_metadata
from des.format.name_key import bound_seed
from des.format.plan import Reads
from des.format.section_table import Section

META_RUN_MAX: Final = 1 << 24
"""Bytes of META that a reader takes to prove the metadata of one file in it."""

PageReads: TypeAlias = Generator[int, bytes, list[Record]]
"""A plan that yields numbers of pages, and is sent these pages, proven."""


def look_up(pages: PagesGeometry, digest: bytes) -> PageReads:
    """Plan the pages that hold a name, one or two; return its records: none, one, or all to be checked."""
    page = pages.page_of(digest)
    records, spilt = find_records((yield page), digest)
    if spilt and page + 1 < pages.written_count and (not records or records[0].check_index):
        records += find_records((yield page + 1), digest)[0]
    if len(records) > 1 and not all(record.check_index for record in records):
        raise BadPageError(f"page {page} has {len(records)} records of one key, not all to be checked")
    return records


def check_record(record: Record, name: str, footer: Footer) -> IndexEntry:
    """Demand that a record lies where it may; return its entry, which in v1 lacks the metadata's place.

    Raises:
        BadPageError: it lies outside DATA.
        UnsupportedContainerError: it has a codec that is not known.
    """
    if footer.layout is Layout.FRAMED:
        entry = record.frame_entry(name, len(name.encode()))
        start, stop = record.offset, entry.meta_offset + entry.meta_length
    else:
        entry = IndexEntry(name, record.offset, record.length, 0, 0, record.flags)
        start, stop = record.offset, record.offset + (0 if entry.is_external else record.length)
    outside = footer.layout is Layout.V1 and entry.is_external
    if record.ordinal >= footer.file_count or (
        record.offset if outside else not footer.data_start <= start <= stop <= footer.data_stop
    ):
        raise BadPageError(f"record of {name!r} is file {record.ordinal} at [{start}, {stop}), outside DATA")
    raw = record.slot == SLOT_RAW or (footer.layout is Layout.V1 and not record.is_proven)
    if entry.is_compressed is raw:
        raise BadPageError(f"record of {name!r} has codec slot {record.slot}, which its flags contradict")
    return entry


def read_bare(record: Record, name: str, digest: bytes) -> Reads[bytes]:
    """Plan the one read of a file of a v1 container, proven by its record. None for a file of no bytes.

    Where nobody ever recorded a checksum of the file, its record proves its place and length only.

    Raises:
        ChecksumMismatchError: the bytes are not this file's.
    """
    data = b""
    if record.length:
        data = yield ByteRange(record.offset, record.offset + record.length)
    check_bare(record, name, google_crc32c.extend(bound_seed(digest), data))
    return data


def check_bare(record: Record, name: str, crc32c: int) -> None:
    """Demand that a name's digest and bytes have the checksum of their record.

    Raises:
        ChecksumMismatchError: they do not.
    """
    if record.is_proven and crc32c != record.proof:
        raise ChecksumMismatchError(
            f"name and bytes of {name!r} have CRC32C {crc32c:08x}, expected {record.proof:08x}", name=name
        )


def read_group(directory: Section, footer: Footer, ordinal: int) -> Reads[tuple[Group, list[IndexEntry]]]:
    """Plan the two reads that fetch the entry of an ordinal and its neighbours, all proven.

    Raises:
        CorruptContainerError: INDEXDIR or INDEX is damaged.
    """
    start, stop = group_range(ordinal, footer.file_count)
    encoded = yield directory.range(start, stop)
    group = decode_group(encoded, footer.index_length)
    data = yield ByteRange(footer.index_start + group.start, footer.index_start + group.stop)
    return group, check_group(group, data, footer, ordinal // GROUP_SIZE)


def check_group(group: Group, data: bytes, footer: Footer, number: int) -> list[IndexEntry]:
    """Prove a group's bytes of INDEX and return its entries.

    Raises:
        ChecksumMismatchError: they are damaged.
        BadIndexError: there are more or fewer than there should be.
    """
    entries = group.entries(data)
    expected = min(GROUP_SIZE, footer.file_count - number * GROUP_SIZE)
    if len(entries) != expected:
        raise BadIndexError(f"group {number} of INDEX has {len(entries)} files, expected {expected}")
    for entry in entries:
        _check_place(entry, footer)
    return entries


def read_entry(directory: Section, footer: Footer, ordinal: int) -> Reads[IndexEntry]:
    """Plan the two reads of one entry of INDEX.

    Raises:
        CorruptContainerError: INDEXDIR or INDEX is damaged.
    """
    _, entries = yield from read_group(directory, footer, ordinal)
    return entries[ordinal % GROUP_SIZE]


def read_indexed(directory: Section, footer: Footer, ordinal: int, name: str) -> Reads[IndexEntry]:
    """Plan the two reads of the entry that a record of `name` refers to.

    Raises:
        CorruptContainerError: something is damaged, or the entry is of another name.
    """
    entry = yield from read_entry(directory, footer, ordinal)
    return _same_name(entry, name)


def check_same_place(record: Record, entry: IndexEntry) -> None:
    """Demand that a v1 file's record and its entry agree.

    Raises:
        BadPageError: they do not.
    """
    found = (record.offset, record.length, record.flags)
    expected = (entry.data_offset, entry.data_length, entry.flags)
    if found != expected:
        raise BadPageError(f"record of {entry.name!r} has place and flags {found}, INDEX says {expected}")


def _same_name(entry: IndexEntry, name: str) -> IndexEntry:
    if entry.name != name:
        raise BadPageError(f"INDEX has {entry.name!r} where its record says {name!r}")
    return entry


def read_described(
    directory: Section, footer: Footer, ordinal: int, name: str
) -> Reads[tuple[IndexEntry, Metadata]]:
    """Plan the three reads of one entry of a v1 container and its metadata, all proven.

    Raises:
        CorruptContainerError: something is damaged, or the entry is of another name.
    """
    group, entries = yield from read_group(directory, footer, ordinal)
    entry = _same_name(entries[ordinal % GROUP_SIZE], name)
    metadata = yield from read_group_metadata(group, entries)
    return entry, decode_metadata(metadata[ordinal % GROUP_SIZE], entry)


def read_group_metadata(group: Group, entries: list[IndexEntry]) -> Reads[list[bytes]]:
    """Plan the one read of the metadata of a group's files in a v1 container, proven.

    Raises:
        ChecksumMismatchError: it is not what was written.
        UnsupportedContainerError: it lies too far apart to be held.
    """
    for entry in entries:
        check_metadata_length(entry)
    start = min(entry.meta_offset for entry in entries)
    stop = max(entry.meta_offset + entry.meta_length for entry in entries)
    if stop - start > META_RUN_MAX:
        raise UnsupportedContainerError(
            f"metadata of neighbours takes {stop - start} bytes, at most {META_RUN_MAX} are read"
        )
    run = yield ByteRange(start, stop)
    parts = [
        run[entry.meta_offset - start : entry.meta_offset - start + entry.meta_length] for entry in entries
    ]
    found = google_crc32c.value(b"".join(parts))
    if found != group.meta_crc32c:
        raise ChecksumMismatchError(
            f"metadata of {entries[0].name!r} and its neighbours has CRC32C {found:08x}, "
            f"expected {group.meta_crc32c:08x}"
        )
    return parts


def _check_place(entry: IndexEntry, footer: Footer) -> None:
    low, high = footer.data_start, footer.data_stop
    external = bool(entry.flags & FLAG_EXTERNAL)
    inside = external or low <= entry.data_offset <= entry.data_offset + entry.data_length <= high
    if footer.layout is Layout.V1:
        low, high = footer.meta_start, footer.meta_stop
    if not inside or not low <= entry.meta_offset < entry.meta_offset + entry.meta_length <= high:
        raise BadIndexError(f"file {entry.name!r} lies outside DATA, or its metadata outside its section")
