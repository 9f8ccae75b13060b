"""ZDICT: a container's dictionaries, between HEADER and DATA (docs/format.md, section 5).

They stand in front, not in EXT, for two reasons: FOOTER's data_start alone says where they are, and a
container that lost its tail keeps what its frames need.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from struct import Struct
from typing import Final, Self

import google_crc32c

from des.format.byte_range import ByteRange
from des.format.compression import (
    CODEC_DICTIONARY_MIN,
    CODEC_MAX,
    CODEC_RAW,
    CODEC_ZSTD,
    DICTIONARY_LENGTH_MAX,
    BadCompressionError,
    Dictionary,
    decompress,
)
from des.format.header import HEADER_SIZE
from des.format.reads import Reads

MAGIC: Final = b"DXZ1"
DICTIONARY_COUNT_MAX: Final = CODEC_MAX - CODEC_DICTIONARY_MIN + 1
DIRECTORY_SIZE: Final = 124
READ_SIZE: Final = 1 << 17
"""Bytes read first: the directory and, in most containers, every dictionary."""

# magic 4 bytes | count u32 | lengths u32 x 14 | crc32c u32 x 14 | directory_crc32c u32
_LAYOUT: Final = Struct("<4sI56s56sI")
_NUMBERS: Final = Struct("<14I")
_SEALED: Final = Struct("<4sI56s56s")
_SEAL: Final = Struct("<I")
assert _LAYOUT.size == DIRECTORY_SIZE
assert _NUMBERS.size == 4 * DICTIONARY_COUNT_MAX


@dataclass(frozen=True, slots=True)
class Directory:
    """What the start of ZDICT says: which dictionaries follow it."""

    lengths: tuple[int, ...]
    """Bytes of each dictionary; the first has slot 2."""
    crc32c: tuple[int, ...]
    """CRC32C of each."""

    @property
    def section_length(self) -> int:
        """Bytes of ZDICT, the directory included."""
        return DIRECTORY_SIZE + sum(self.lengths)

    @property
    def slots(self) -> range:
        """The slots that have a dictionary."""
        return range(CODEC_DICTIONARY_MIN, CODEC_DICTIONARY_MIN + len(self.lengths))

    def range_of(self, slot: int) -> ByteRange:
        """Return where the dictionary of `slot` lies in the container."""
        starts = [*accumulate(self.lengths, initial=HEADER_SIZE + DIRECTORY_SIZE)]
        at = slot - CODEC_DICTIONARY_MIN
        return ByteRange(starts[at], starts[at + 1])

    def encode(self) -> bytes:
        """Return the directory's bytes."""
        empty = (0,) * (DICTIONARY_COUNT_MAX - len(self.lengths))
        sealed: bytes = _SEALED.pack(
            MAGIC,
            len(self.lengths),
            _NUMBERS.pack(*self.lengths, *empty),
            _NUMBERS.pack(*self.crc32c, *empty),
        )
        return sealed + _SEAL.pack(google_crc32c.value(sealed))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a directory.

        Raises:
            BadCompressionError: another length, magic or checksum, or lengths out of bounds.
        """
        if len(data) != DIRECTORY_SIZE:
            raise BadCompressionError(f"ZDICT has {len(data)} bytes, its directory alone {DIRECTORY_SIZE}")
        magic, count, lengths, checksums, crc32c = _LAYOUT.unpack(data)
        if magic != MAGIC:
            raise BadCompressionError(f"ZDICT magic is {magic!r}, expected {MAGIC!r}")
        if google_crc32c.value(data[: _SEALED.size]) != crc32c:
            raise BadCompressionError("directory of ZDICT does not have the checksum it carries")
        if not 1 <= count <= DICTIONARY_COUNT_MAX:
            raise BadCompressionError(f"ZDICT has {count} dictionaries, expected 1 to {DICTIONARY_COUNT_MAX}")
        found = _NUMBERS.unpack(lengths)
        if any(found[count:]) or not all(0 < length <= DICTIONARY_LENGTH_MAX for length in found[:count]):
            raise BadCompressionError(f"ZDICT has {count} dictionaries of {found} bytes")
        return cls(found[:count], _NUMBERS.unpack(checksums)[:count])


def encode_dictionaries(dictionaries: Sequence[bytes]) -> bytes:
    """Return ZDICT; nothing for no dictionary."""
    if not dictionaries:
        return b""
    directory = Directory(
        tuple(map(len, dictionaries)), tuple(google_crc32c.value(data) for data in dictionaries)
    )
    return directory.encode() + b"".join(dictionaries)


class Dictionaries:
    """The dictionaries of one container, each read when first needed and then kept. Safe for threads."""

    def __init__(self, data_start: int | None) -> None:
        """Name them.

        Args:
            data_start: as FOOTER has it, where ZDICT ends; None where FOOTER is lost.
        """
        self._stop = data_start
        self._directory: Directory | None = None
        self._kept: dict[int, Dictionary] = {}

    @property
    def memory_bytes(self) -> int:
        """Bytes kept so far."""
        return sum(dictionary.memory_bytes for dictionary in list(self._kept.values()))

    def decompress(self, stored: bytes, *, codec: int, raw_length: int) -> Reads[bytes]:
        """Plan what turns stored bytes into a file's: reads only where its dictionary was never read.

        Raises:
            BadCompressionError: a damaged or absent dictionary, or bytes that do not decompress.
        """
        if codec == CODEC_RAW:
            return stored
        dictionary = None if codec == CODEC_ZSTD else (yield from self.read(codec))
        return decompress(stored, raw_length=raw_length, dictionary=dictionary)

    def read_directory(self) -> Reads[Directory]:
        """Plan the read of the directory: one, the first time.

        Raises:
            BadCompressionError: ZDICT is damaged, or there is none.
        """
        if self._directory is None:
            yield from self._read_start(DIRECTORY_SIZE)
        assert self._directory is not None
        return self._directory

    def read(self, slot: int) -> Reads[Dictionary]:
        """Plan the read of one dictionary: none where it is known, otherwise one or two.

        Raises:
            BadCompressionError: it is damaged, or there is none.
        """
        known = self._kept.get(slot)
        if known is not None:
            return known
        start = b"" if self._directory is not None else (yield from self._read_start(READ_SIZE))
        directory = self._directory
        assert directory is not None
        at = slot - CODEC_DICTIONARY_MIN
        if at >= len(directory.lengths):
            raise BadCompressionError(
                f"a file needs dictionary {slot}, the container has {len(directory.lengths)} from "
                f"{CODEC_DICTIONARY_MIN} on"
            )
        place = directory.range_of(slot)
        if place.stop - HEADER_SIZE <= len(start):
            data = start[place.start - HEADER_SIZE : place.stop - HEADER_SIZE]
        else:
            data = yield place
        if google_crc32c.value(data) != directory.crc32c[at]:
            raise BadCompressionError(f"dictionary {slot} does not have the checksum recorded for it")
        kept = self._kept[slot] = Dictionary(data)
        return kept

    def _read_start(self, size: int) -> Reads[bytes]:
        stop = HEADER_SIZE + size if self._stop is None else min(self._stop, HEADER_SIZE + size)
        if stop - HEADER_SIZE < DIRECTORY_SIZE:
            raise BadCompressionError("a file needs a dictionary, the container has none")
        start = yield ByteRange(HEADER_SIZE, stop)
        directory = Directory.decode(start[:DIRECTORY_SIZE])
        if self._stop not in {None, HEADER_SIZE + directory.section_length}:
            raise BadCompressionError(
                f"ZDICT ends at {HEADER_SIZE + directory.section_length}, but DATA starts at {self._stop}"
            )
        self._directory = directory
        return start
