"""HASHPAGES: where each file lies, found by one read at a computed place (docs/format.md, section 14)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from struct import Struct
from typing import Any, Final, TypeAlias

import google_crc32c

from des.format.byte_range import ByteRange
from des.format.checksums import SEALED
from des.format.errors import ChecksumMismatchError, CorruptContainerError
from des.format.frame import FRAME_HEADER_SIZE
from des.format.index import FLAG_EXTERNAL, IndexEntry
from des.format.name_key import KEY_START, KEY_STOP, hash_of, key_of

MAGIC: Final = b"DXP1"
PAGE_SIZE: Final = 4096
PAGE_HEADER_SIZE: Final = 28
RECORD_SIZE: Final = 32
RECORDS_MAX: Final = 127
"""Records in a page."""
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

# magic 4 bytes | page u32 | count u16 | flags u16 | uuid_low u64 | reserved u64
_HEADER: Final = Struct("<4sIHHQQ")
_MARK_START: Final = 10
"""Where the header goes on behind the count."""
SEAL: Final = Struct("<I")
"""CRC32C of all of a page before it."""
# key 12 bytes | offset u48 | length u40 | flags u8 | proof u32 | ordinal u32, in units of Struct
_RECORD: Final = Struct("<12sQIII")
assert _HEADER.size == PAGE_HEADER_SIZE
assert _RECORD.size == RECORD_SIZE
assert PAGE_HEADER_SIZE + RECORDS_MAX * RECORD_SIZE + SEAL.size == PAGE_SIZE


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
        (crc32c,) = SEAL.unpack_from(data, PAGE_SIZE - SEAL.size)
        if google_crc32c.value(data[: -SEAL.size]) != crc32c:
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
