"""HASHPAGES: where each file lies, found by one read at a computed place (docs/format.md, section 14)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from struct import Struct
from typing import Any, Final, TypeAlias

import google_crc32c
import numpy as np
import numpy.typing as npt

from des.format.byte_range import ByteRange
from des.format.checksums import SEALED
from des.format.errors import ChecksumMismatchError, CorruptContainerError
from des.format.frame import FRAME_HEADER_SIZE
from des.format.index import FLAG_EXTERNAL, IndexEntry
from des.format.name_key import KEY_SIZE, KEY_START, KEY_STOP, hash_of, key_of

MAGIC: Final = b"DXP1"
PAGE_SIZE: Final = 4096
PAGE_HEADER_SIZE: Final = 28
RECORD_SIZE: Final = 32
RECORDS_MAX: Final = 127
"""Records in a page."""
FILL: Final = 0.9
"""Share of the records in a page that its files take on average. At 10 million files the most that
spill over one page's end is then half of what the next page takes."""
READ_SIZE: Final = 2 * PAGE_SIZE
"""A record lies in its page or the next, so this many bytes hold it."""
PAGE_COUNT_MAX: Final = (1 << 32) - 2

FLAGS_MASK: Final = 0x0F
SLOT_SHIFT: Final = 4
SLOT_RAW: Final = 0
"""Codec slot of a file whose stored bytes are its bytes."""
SLOT_UNPROVEN: Final = 15
"""In v1: nobody recorded a checksum of the file's bytes, and `proof` says nothing."""
OFFSET_MAX: Final = (1 << 48) - 1
LENGTH_CHECK_INDEX: Final = (1 << 40) - 1
"""A length that says: the name, or what fits no record, is to be looked up in INDEX."""

_TAKEN_APART: Final = 12
"""Names sought in one page from which it is cheaper to take the page apart, as measured."""
_PAGES_GROWN: Final = 4
"""Times the first estimate of pages that a writer goes to; names that need more were made to collide."""
_BUILD_PAGES: Final = 1 << 12
"""Pages built at once, which bounds memory."""

# magic 4 bytes | page u32 | count u16 | flags u16 | uuid_low u64 | reserved u64
_HEADER: Final = Struct("<4sIHHQQ")
_MARK_START: Final = 10
"""Where the header goes on behind the count."""
_SEAL: Final = Struct("<I")
# key 12 bytes | offset u48 | length u40 | flags u8 | proof u32 | ordinal u32, in units of Struct
_RECORD: Final = Struct("<12sQIII")
assert _HEADER.size == PAGE_HEADER_SIZE
assert _RECORD.size == RECORD_SIZE
assert PAGE_HEADER_SIZE + RECORDS_MAX * RECORD_SIZE + _SEAL.size == PAGE_SIZE

RECORD_TYPE: Final = np.dtype(
    [("key", "V12"), ("low", "<u8"), ("high", "<u4"), ("proof", "<u4"), ("ordinal", "<u4")]
)
"""Of numpy: `_RECORD`."""
assert RECORD_TYPE.itemsize == RECORD_SIZE
_HEADER_TYPE: Final = np.dtype(
    [("magic", "S4"), ("page", "<u4"), ("count", "<u2"), ("flags", "<u2"), ("uuid", "<u8"), ("zero", "<u8")]
)
assert _HEADER_TYPE.itemsize == PAGE_HEADER_SIZE


class BadPageError(CorruptContainerError):
    """A page is damaged, or is not the page that was asked for."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where one file lies, as its page says."""

    offset: int
    """First byte of the frame; in v1 of the file, 0 for an external one."""
    length: int
    """Stored bytes of the file; of an external one, its length; or `LENGTH_CHECK_INDEX`."""
    flags: int
    """As in INDEX."""
    slot: int
    """Codec slot: how the stored bytes become the file's."""
    proof: int
    """`framed`: bytes of metadata. v1: CRC32C of digest bytes 8 to 23 and the stored bytes."""
    ordinal: int
    """Position of the file in INDEX, from 0."""

    @property
    def is_proven(self) -> bool:
        """Whether `proof` of a v1 file says what its bytes are."""
        return self.slot != SLOT_UNPROVEN

    @property
    def check_index(self) -> bool:
        """Whether INDEX is to be asked: two names share the key, or a number does not fit."""
        return self.length == LENGTH_CHECK_INDEX

    def frame_entry(self, name: str, name_length: int) -> IndexEntry:
        """Return the entry that INDEX of a framed container has for a file of this record."""
        external = bool(self.flags & FLAG_EXTERNAL)
        name_start = self.offset + FRAME_HEADER_SIZE + (0 if external else self.length)
        return IndexEntry(
            name=name,
            data_offset=0 if external else self.offset + FRAME_HEADER_SIZE,
            data_length=self.length,
            meta_offset=name_start + name_length,
            meta_length=self.proof,
            flags=self.flags,
        )


@dataclass(frozen=True, slots=True)
class PagesGeometry:
    """Where the pages of one container lie."""

    uuid: bytes
    """The container's id, 16 bytes."""
    start: int
    """First byte of the first page."""
    length: int
    """Bytes of all pages."""
    page_count: int
    """What a page number is computed with; one page more is written where the last one spills."""

    def __post_init__(self) -> None:
        if not 1 <= self.page_count <= PAGE_COUNT_MAX or self.length not in {
            self.page_count * PAGE_SIZE,
            (self.page_count + 1) * PAGE_SIZE,
        }:
            raise BadPageError(f"{self.page_count} pages have {self.length} bytes")

    @property
    def written_count(self) -> int:
        """Pages that there are."""
        return self.length // PAGE_SIZE

    def page_of(self, digest: bytes) -> int:
        """Return the page in which the name of this digest is, or after which it spilt."""
        return hash_of(digest) * self.page_count >> 64

    def read_range(self, page: int) -> ByteRange:
        """Return the range of a page and the next, where there is one."""
        start = self.start + page * PAGE_SIZE
        return ByteRange(start, min(start + READ_SIZE, self.start + self.length))

    def check_page(self, page: int, data: bytes) -> None:
        """Demand that `data` is page `page` of this container.

        Raises:
            BadPageError: it is another page.
            ChecksumMismatchError: it is damaged.
        """
        if len(data) != PAGE_SIZE:
            raise BadPageError(f"page {page} has {len(data)} bytes, expected {PAGE_SIZE}")
        (crc32c,) = _SEAL.unpack_from(data, PAGE_SIZE - _SEAL.size)
        if google_crc32c.value(data[: -_SEAL.size]) != crc32c:
            raise ChecksumMismatchError(f"page {page} of HASHPAGES does not have the checksum it carries")
        magic, number, count, flags, uuid_low, reserved = _HEADER.unpack_from(data)
        found = (magic, number, flags, uuid_low, reserved)
        expected = (MAGIC, page, 0, int.from_bytes(self.uuid[8:], "little"), 0)
        if found != expected or count > RECORDS_MAX:
            raise BadPageError(f"page has {found} and {count} records, expected {expected}")


def page_mark(uuid: bytes) -> bytes:
    """Return what every page of a container says between its count and its records."""
    return _HEADER.pack(MAGIC, 0, 0, 0, int.from_bytes(uuid[8:], "little"), 0)[_MARK_START:]


def is_page(data: bytes, number: int, mark: bytes) -> bool:
    """Whether `data` is page `number` of the container with that mark, as `check_page` demands."""
    return (
        google_crc32c.value(data) == SEALED
        and data.startswith(MAGIC + number.to_bytes(4, "little"))
        and data.startswith(mark, _MARK_START)
        and len(data) == PAGE_SIZE
        and data[8] | data[9] << 8 <= RECORDS_MAX
    )


def encode_record(
    key: bytes, offset: int, length: int, flags: int, proof: int, ordinal: int, slot: int = SLOT_RAW
) -> bytes:
    """Return the 32 bytes of a record, whose fields are those of `Record`.

    What fits no record says `LENGTH_CHECK_INDEX` instead.
    """
    if length >= LENGTH_CHECK_INDEX or offset > OFFSET_MAX:
        offset, length, slot, proof = 0, LENGTH_CHECK_INDEX, SLOT_RAW, 0
    return _RECORD.pack(
        key,
        offset | (length & 0xFFFF) << 48,
        length >> 16 | flags << 24 | slot << 24 + SLOT_SHIFT,
        proof,
        ordinal,
    )


def encode_records(rows: npt.NDArray[Any]) -> bytes:
    """Return the records of many files, as `encode_record` would make them one by one.

    `rows` has the fields key, offset, length, flags, proof and slot; a row's number is its ordinal.
    """
    length = rows["length"].astype(np.uint64)
    offset = rows["offset"].astype(np.uint64)
    misfit = (length >= LENGTH_CHECK_INDEX) | (offset > OFFSET_MAX)
    length[misfit] = LENGTH_CHECK_INDEX
    offset[misfit] = 0
    slot = np.where(misfit, SLOT_RAW, rows["slot"]).astype(np.uint32)
    records = np.empty(len(rows), RECORD_TYPE)
    records["key"] = rows["key"]
    records["low"] = offset | (length & np.uint64(0xFFFF)) << np.uint64(48)
    records["high"] = (length >> np.uint64(16)).astype(np.uint32)
    records["high"] |= (rows["flags"].astype(np.uint32) | slot << np.uint32(SLOT_SHIFT)) << np.uint32(24)
    records["proof"] = np.where(misfit, 0, rows["proof"])
    records["ordinal"] = np.arange(len(rows), dtype=np.uint32)
    return records.tobytes()


def find_records(page: bytes, digest: bytes) -> tuple[list[Record], bool]:
    """Return a proven page's records of a name, and whether the next page may have more."""
    count = record_count(page)
    stop = PAGE_HEADER_SIZE + count * RECORD_SIZE
    key = key_of(digest)
    records: list[Record] = []
    place = page.find(key, PAGE_HEADER_SIZE, stop)
    while place >= 0:
        if (place - PAGE_HEADER_SIZE) % RECORD_SIZE == 0:
            records.append(decode_record(page, place))
        place = page.find(key, place + 1, stop)
    return records, count == RECORDS_MAX


class Unsettled(Enum):
    """What a page says of a name that it has no plain record of."""

    ABSENT = "absent"
    """It would be in this page."""
    NEXT_PAGE = "next page"
    """The page is full: the name may have spilt into the next one."""
    INDEX = "index"
    """Only INDEX tells."""


PlainRecord: TypeAlias = tuple[int, int, int, int]
"""Offset, length, flags and proof."""


def find_plain(page: bytes, digest: bytes) -> PlainRecord | Unsettled:
    """Return the one record that a proven page has of a name.

    As `des.format.locate.look_up` does, at a fifth of its price. Records of one key either are one, or all
    say that INDEX is to be asked (docs/format.md, section 14), so the first one tells.
    """
    count = page[8] | page[9] << 8
    stop = PAGE_HEADER_SIZE + count * RECORD_SIZE
    key = key_of(digest)
    place = page.find(key, PAGE_HEADER_SIZE, stop)
    if place < 0:
        return Unsettled.NEXT_PAGE if count == RECORDS_MAX else Unsettled.ABSENT
    if (place - PAGE_HEADER_SIZE) % RECORD_SIZE:
        return Unsettled.INDEX
    return _plain(_RECORD.unpack_from(page, place))


def find_many_plain(page: bytes, digests: Sequence[bytes]) -> list[PlainRecord | Unsettled]:
    """Return what `find_plain` says of each name; of many names, the page is taken apart once."""
    if len(digests) < _TAKEN_APART:
        return [find_plain(page, digest) for digest in digests]
    count = record_count(page)
    stop = PAGE_HEADER_SIZE + count * RECORD_SIZE
    records = {record[0]: record for record in _RECORD.iter_unpack(page[PAGE_HEADER_SIZE:stop])}
    if len(records) < count:  # two have one key
        return [find_plain(page, digest) for digest in digests]
    unknown = Unsettled.NEXT_PAGE if count == RECORDS_MAX else Unsettled.ABSENT
    found: list[PlainRecord | Unsettled] = []
    for digest in digests:
        record = records.get(digest[KEY_START:KEY_STOP])
        found.append(unknown if record is None else _plain(record))
    return found


def _plain(record: tuple[Any, ...]) -> PlainRecord | Unsettled:
    _, low, high, proof, _ = record
    length = low >> 48 | (high & 0xFFFFFF) << 16
    if length == LENGTH_CHECK_INDEX:
        return Unsettled.INDEX
    return low & OFFSET_MAX, length, high >> 24 & FLAGS_MASK, proof


def record_count(page: bytes) -> int:
    """Return how many records a proven page has."""
    return int.from_bytes(page[8:10], "little")


def decode_record(data: bytes, place: int) -> Record:
    """Read the 32 bytes at `place`; what they say is proven by their page."""
    _, low, high, proof, ordinal = _RECORD.unpack_from(data, place)
    return Record(
        offset=low & OFFSET_MAX,
        length=low >> 48 | (high & 0xFFFFFF) << 16,
        flags=high >> 24 & FLAGS_MASK,
        slot=high >> 24 + SLOT_SHIFT,
        proof=proof,
        ordinal=ordinal,
    )


@dataclass(frozen=True, slots=True)
class PagePlan:
    """In which page each record goes."""

    records: npt.NDArray[np.uint8]
    """One row of 32 bytes for each record, in the order they were added."""
    order: npt.NDArray[np.int64]
    """Rows in the order of their keys."""
    places: npt.NDArray[np.int64]
    """For each of them, in that order: page * 127 + place in the page."""
    hashes: npt.NDArray[np.uint64]
    """The records' hashes, in that order."""
    page_count: int
    written_count: int

    def pages(self, uuid: bytes) -> Iterator[bytes]:
        """Yield the pages' bytes, many pages at a time."""
        starts = np.searchsorted(
            self.places, np.arange(0, self.written_count + 1, dtype=np.int64) * RECORDS_MAX
        )
        uuid_low = int.from_bytes(uuid[8:], "little")
        for first in range(0, self.written_count, _BUILD_PAGES):
            stop = min(first + _BUILD_PAGES, self.written_count)
            built = np.zeros((stop - first, PAGE_SIZE), np.uint8)
            header = np.zeros(stop - first, _HEADER_TYPE)
            header["magic"] = MAGIC
            header["page"] = np.arange(first, stop)
            header["count"] = np.diff(starts[first : stop + 1])
            header["uuid"] = uuid_low
            built[:, :PAGE_HEADER_SIZE] = header.view(np.uint8).reshape(-1, PAGE_HEADER_SIZE)
            rows = slice(int(starts[first]), int(starts[stop]))
            page, slot = np.divmod(self.places[rows], RECORDS_MAX)
            inside = built[:, PAGE_HEADER_SIZE : -_SEAL.size].reshape(-1, RECORDS_MAX, RECORD_SIZE)
            inside[page - first, slot] = self.records[self.order[rows]]
            encoded = built.tobytes()
            for start in range(0, len(encoded), PAGE_SIZE):
                page_bytes = encoded[start : start + PAGE_SIZE - _SEAL.size]
                crc32c = google_crc32c.value(page_bytes)
                built[start // PAGE_SIZE, -_SEAL.size :] = np.frombuffer(_SEAL.pack(crc32c), np.uint8)
            yield built.tobytes()


def plan_pages(encoded: bytes | bytearray, page_count: int | None = None) -> PagePlan | None:
    """Place records (32 bytes each) into pages; mark those whose keys collide for a look into INDEX.

    Returns None where no reasonable number of pages holds them: names made to collide. Such a container
    has no HASHPAGES, and is read through INDEX.
    """
    records = np.frombuffer(bytes(encoded), np.uint8).reshape(-1, RECORD_SIZE)
    hashes = np.ascontiguousarray(records[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    records, order = _settle_collisions(records, order, hashes)
    count = page_count or max(1, -int(-len(records) // (RECORDS_MAX * FILL)))
    largest = _PAGES_GROWN * count
    while count <= min(largest, PAGE_COUNT_MAX):
        page = pages_of(hashes, count)
        row = np.arange(len(hashes), dtype=np.int64)
        places = row + np.maximum.accumulate(RECORDS_MAX * page - row) if len(row) else row
        if (places // RECORDS_MAX <= page + 1).all():
            last = int(places[-1]) // RECORDS_MAX if len(places) else 0
            return PagePlan(records, order, places, hashes, count, max(count, last + 1))
        count += count // 16 + 1
    return None


def pages_of(hashes: npt.NDArray[np.uint64], page_count: int) -> npt.NDArray[np.int64]:
    """Return `hash * page_count >> 64` of each, without numbers of 128 bits."""
    return scale(hashes, page_count).astype(np.int64)


def scale(hashes: npt.NDArray[np.uint64], parts: int) -> npt.NDArray[np.uint64]:
    """Return `hash * parts >> 64` of each hash, for `parts` below 2**32."""
    wide = np.uint64(parts)
    half = np.uint64(32)
    low = (hashes & np.uint64(0xFFFFFFFF)) * wide >> half
    scaled: npt.NDArray[np.uint64] = ((hashes >> half) * wide + low) >> half
    return scaled


def _settle_collisions(
    records: npt.NDArray[np.uint8], order: npt.NDArray[Any], hashes: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """Mark records that share a whole key: their names stand in INDEX only."""
    doubled = np.flatnonzero(hashes[1:] == hashes[:-1])
    if not len(doubled):
        return records, order
    near = np.unique(np.concatenate([doubled, doubled + 1]))
    keys: dict[bytes, list[int]] = {}
    for place in near:
        row = int(order[place])
        keys.setdefault(records[row, :KEY_SIZE].tobytes(), []).append(row)
    marked = records.copy()
    for rows in keys.values():
        for row in rows if len(rows) > 1 else ():
            record = decode_record(marked[row].tobytes(), 0)
            key = marked[row, :KEY_SIZE].tobytes()
            mark = encode_record(key, 0, LENGTH_CHECK_INDEX, record.flags, 0, record.ordinal)
            marked[row] = np.frombuffer(mark, np.uint8)
    return marked, order
