"""The record: header, name, text, data (docs/log.md, section 3). Pure bytes in, values out.

A record's header is summed before any length in it is believed. Its checksum starts from the
segment's random salt, so no file content, not even a copy of another log, can hold a valid record.

```
magic u32 | kind u8 | flags u8 | name_len u16 | text_len u32 | data_len u32 | seq u64 | group u64
| time_ms u64 | day u32 | shard u32 | prev_crc u32 | data_crc u32 | text_crc u32 | header_crc u32
| name | text | data                                                        all little-endian
```
"""

import zlib
from array import array
from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

import google_crc32c
import numpy as np

from des.errors import CorruptError, PreconditionError
from des.ingest.values import Extent, Sealing

MAGIC: Final = 0x5245_4344
"""`DCER` in the file's byte order; only a first filter, the checksum decides."""
MAGIC_BYTES: Final = MAGIC.to_bytes(4, "little")
HEADER_SIZE: Final = 64
SUMMED: Final = HEADER_SIZE - 4
"""Bytes of the header under its own checksum."""

NAME_MAX: Final = 1024
TEXT_MAX: Final = 1 << 20
DATA_MAX: Final = 1 << 20
"""Bytes of one FILE or BLOCK record; longer files come as blocks."""
SEALING_SEQS_MAX: Final = 1 << 20
SEALING_DATA_MAX: Final = 9 << 20
"""A million sequence numbers that do not compress, with zlib's own overhead."""

END_SIZE: Final = HEADER_SIZE

FLAG_BLOCKS: Final = 1
"""The file's bytes stand in BLOCK records; text starts with their extents."""
FLAG_EXTERNAL: Final = 2
"""The file's bytes are in the object store; text starts with size and checksum."""
FLAGS: Final = FLAG_BLOCKS | FLAG_EXTERNAL

HEADER: Final = Struct("<IBBHIIQQQIIIIII")
CRC: Final = Struct("<I")
_OUTSIDE: Final = Struct("<QII")  # size, crc32c, extents
_EXTENT: Final = Struct("<QQII")  # segment, offset, length, crc32c
_FLOOR: Final = Struct("<Q")  # milliseconds since 1970
_SEALING: Final = Struct("<IIIBQI")  # day, first_shard, span, bits, epoch, seqs
assert HEADER.size == HEADER_SIZE


class Kind(IntEnum):
    """What a record says."""

    FILE = 1
    BLOCK = 2
    CLOCK_FLOOR = 3
    SEALING = 4
    STORED = 5
    DELETE = 6
    """The file of that name is gone for every reader, and the name is never free again."""
    END = 7
    """Last record of a segment that was closed in order."""


KINDS: Final = frozenset(int(kind) for kind in Kind)
DATA_LIMITS: Final = {int(kind): DATA_MAX for kind in Kind} | {int(Kind.SEALING): SEALING_DATA_MAX}


class LogVersionError(PreconditionError):
    """The log was written by a newer version of DES."""


class RecordError(CorruptError):
    """A record whose checksums hold but whose content breaks the format."""

    reason = "LOG_DAMAGED"


class Draft(NamedTuple):
    """A record before its place is known."""

    kind: Kind
    flags: int
    name: bytes
    text: bytes
    data: bytes
    data_crc: int
    day: int
    shard: int

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return HEADER_SIZE + len(self.name) + len(self.text) + len(self.data)


def encode(
    draft: Draft, *, seq: int, group: int, time_ms: int, prev_crc: int, salt: int
) -> tuple[bytes, int]:
    """Return header, name and text, and the header's checksum; the data follows as it is.

    The reader is `des.ingest.scan`.
    """
    _, flags, name, text, data, data_crc, day, shard = draft
    body = name + text
    summed = HEADER.pack(
        MAGIC,
        draft.kind,
        flags,
        len(name),
        len(text),
        len(data),
        seq,
        group,
        time_ms,
        day,
        shard,
        prev_crc,
        data_crc,
        google_crc32c.extend(salt, body),
        0,
    )[:SUMMED]
    header_crc: int = google_crc32c.extend(salt, summed)
    return summed + CRC.pack(header_crc) + body, header_crc


def lengths_allowed(kind: int, name_len: int, text_len: int, data_len: int) -> bool:
    """Whether a summed header may be believed about its lengths, for a kind of this version."""
    return name_len <= NAME_MAX and text_len <= TEXT_MAX and data_len <= DATA_LIMITS.get(kind, 0)


def encode_outside(*, size: int, crc32c: int, extents: Sequence[Extent], facts: bytes) -> bytes:
    """Return the text of a FILE record whose bytes lie elsewhere. The reader is `decode_outside`."""
    parts = [_OUTSIDE.pack(size, crc32c, len(extents))]
    parts += [_EXTENT.pack(part.segment, part.offset, part.length, part.crc32c) for part in extents]
    parts.append(facts)
    return b"".join(parts)


def decode_outside(text: bytes) -> tuple[int, int, tuple[Extent, ...], bytes]:
    """Return size, checksum, extents and facts of such a text.

    Raises:
        RecordError: the text is shorter than its own count of extents.
    """
    if len(text) < _OUTSIDE.size:
        raise RecordError(f"text of a file outside its record is {len(text)} bytes, expected {_OUTSIDE.size}")
    size, crc32c, count = _OUTSIDE.unpack_from(text)
    stop = _OUTSIDE.size + count * _EXTENT.size
    if stop > len(text):
        raise RecordError(f"text of {len(text)} bytes promises {count} extents, which take {stop}")
    extents = tuple(Extent(*fields) for fields in _EXTENT.iter_unpack(text[_OUTSIDE.size : stop]))
    return size, crc32c, extents, text[stop:]


def floor_draft(floor_ms: int) -> Draft:
    """Return the CLOCK_FLOOR record for a time in milliseconds since 1970."""
    return _control(Kind.CLOCK_FLOOR, data=_FLOOR.pack(floor_ms))


def decode_floor(data: bytes) -> int:
    """Return the time of a CLOCK_FLOOR record."""
    if len(data) != _FLOOR.size:
        raise RecordError(f"clock floor is {len(data)} bytes, expected {_FLOOR.size}")
    floor_ms: int = _FLOOR.unpack(data)[0]
    return floor_ms


def sealing_draft(sealing: Sealing) -> Draft:
    """Return the SEALING record: container id as name, geometry and layout as text, members as data.

    Members are differences of ascending numbers, stored byte plane by byte plane: nearly all high
    planes are zeros, which zlib takes to almost nothing.
    """
    seqs = np.asarray(sealing.seqs, dtype=np.uint64)
    if len(seqs) > SEALING_SEQS_MAX:
        raise ValueError(f"a sealing of {len(seqs)} files, at most {SEALING_SEQS_MAX} are allowed")
    if np.any(seqs[1:] <= seqs[:-1]):
        raise ValueError("member sequence numbers of a sealing must ascend")
    steps = np.diff(seqs, prepend=np.uint64(0)).astype("<u8")
    planes = steps.view(np.uint8).reshape(-1, 8).T.tobytes()
    text = (
        _SEALING.pack(sealing.day, sealing.first_shard, sealing.span, sealing.bits, sealing.epoch, len(seqs))
        + sealing.layout.encode()
    )
    return _control(
        Kind.SEALING, name=sealing.container_id.encode(), text=text, data=zlib.compress(planes, level=1)
    )


def decode_sealing(container_id: str, text: bytes, data: bytes) -> Sealing:
    """Return what a SEALING record says. The writer is `sealing_draft`.

    Raises:
        RecordError: the parts do not fit each other.
    """
    if len(text) < _SEALING.size:
        raise RecordError(f"text of a sealing is {len(text)} bytes, expected at least {_SEALING.size}")
    day, first_shard, span, bits, epoch, count = _SEALING.unpack_from(text)
    if count > SEALING_SEQS_MAX:
        raise RecordError(f"a sealing of {count} files, at most {SEALING_SEQS_MAX} are allowed")
    try:
        planes = zlib.decompressobj().decompress(data, count * 8 + 1)
    except zlib.error as error:
        raise RecordError(f"members of a sealing do not decompress: {error}") from error
    if len(planes) != count * 8:
        raise RecordError(f"members of a sealing are {len(planes)} bytes, expected {count * 8}")
    steps = np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(8, count).T).view("<u8")
    seqs = array("Q", np.cumsum(steps.reshape(-1), dtype=np.uint64).tobytes())
    return Sealing(
        container_id=container_id,
        day=day,
        first_shard=first_shard,
        span=span,
        bits=bits,
        layout=text[_SEALING.size :].decode(),
        epoch=epoch,
        seqs=seqs,
    )


def delete_draft(name: str, *, day: int, shard: int, external_key: str) -> Draft:
    """Return the DELETE record of a file; `external_key` names the object of a big one."""
    raw, text = name.encode(), external_key.encode()
    if not raw or len(raw) > NAME_MAX or len(text) > TEXT_MAX:
        raise ValueError(f"a name of {len(raw)} bytes and a key of {len(text)}, which no record holds")
    return Draft(Kind.DELETE, 0, raw, text, b"", 0, day, shard)


def stored_draft(container_id: str, etag: str) -> Draft:
    """Return the STORED record."""
    return _control(Kind.STORED, name=container_id.encode(), text=etag.encode())


def end_draft() -> Draft:
    """Return the END record."""
    return _control(Kind.END)


def _control(kind: Kind, *, name: bytes = b"", text: bytes = b"", data: bytes = b"") -> Draft:
    return Draft(kind, 0, name, text, data, google_crc32c.value(data), 0, 0)
