"""A frame: one file in DATA of a framed container (docs/format.md, section 5)."""

import hashlib
from dataclasses import dataclass
from struct import Struct
from typing import Final, Self

import google_crc32c

from des.format.compression import CODEC_MAX, CODEC_RAW, COMPRESSED_RAW_LENGTH_MAX
from des.format.errors import ChecksumMismatchError, CorruptContainerError, UnsupportedContainerError
from des.format.index import FLAG_COMPRESSED, IndexEntry

MAGIC: Final = b"DXF1"
FRAME_HEADER_SIZE: Final = 32
STORED_LENGTH_MAX: Final = (1 << 32) - 1
"""Bytes of a file inside a framed container: its length in the frame is a u32."""

# magic 4 bytes | key 6 bytes | codec u8 | flags u8 | stored_length u32 | raw_length u32
# | name_length u16 | meta_length u16 | data_crc32c u32 | frame_crc32c u32
_LAYOUT: Final = Struct("<4s6sBBIIHHII")
_UNSEALED: Final = Struct("<4s6sBBIIHHI")
_SEAL: Final = Struct("<I")
assert _LAYOUT.size == FRAME_HEADER_SIZE
assert _UNSEALED.size + _SEAL.size == FRAME_HEADER_SIZE


class BadFrameError(CorruptContainerError):
    """A frame is damaged, or is not the frame of the file that INDEX puts there."""


def frame_key(name: bytes) -> bytes:
    """Return the six bytes that bind a frame to its name.

    Bytes 8 to 13 of SHA-256: the first ones choose the shard and are alike within a container.
    """
    return frame_key_of(hashlib.sha256(name).digest())


def frame_key_of(digest: bytes) -> bytes:
    """Return the same six bytes, where SHA-256 of the name is known."""
    return digest[8:14]


def encode_frame_header(
    name: bytes,
    metadata: bytes,
    *,
    flags: int,
    stored_length: int,
    data_crc32c: int,
    codec: int = CODEC_RAW,
    raw_length: int | None = None,
    key: bytes | None = None,
) -> bytes:
    """Return the 32 bytes before a file's stored bytes; `decode_frame` reads them.

    `raw_length` is the file's length where it is not `stored_length`; `key` saves a second digest.
    """
    unsealed = _UNSEALED.pack(
        MAGIC,
        frame_key(name) if key is None else key,
        codec,
        flags,
        stored_length,
        stored_length if raw_length is None else raw_length,
        len(name),
        len(metadata),
        data_crc32c,
    )
    return unsealed + _SEAL.pack(google_crc32c.value(unsealed + name + metadata))


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The fixed part of a frame."""

    key: bytes
    codec: int
    flags: int
    stored_length: int
    """Bytes between the header and the name; 0 for an external file."""
    raw_length: int
    """Bytes of the file; equal to `stored_length` with codec 0."""
    name_length: int
    meta_length: int
    data_crc32c: int
    """CRC32C of the file's bytes."""
    frame_crc32c: int
    """CRC32C of header bytes 0 to 27, name and metadata."""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read 32 bytes; nothing in them is proven before `check_tail`.

        Raises:
            BadFrameError: another length or magic.
        """
        if len(data) != FRAME_HEADER_SIZE:
            raise BadFrameError(f"frame header has {len(data)} bytes, expected {FRAME_HEADER_SIZE}")
        magic, *fields = _LAYOUT.unpack(data)
        if magic != MAGIC:
            raise BadFrameError(f"frame magic is {magic!r}, expected {MAGIC!r}")
        return cls(*fields)


def frame_start(entry: IndexEntry) -> int:
    """Return where the frame of `entry` starts; may be out of bounds in a damaged INDEX."""
    if entry.is_external:
        return entry.meta_offset - len(entry.name.encode()) - FRAME_HEADER_SIZE
    return entry.data_offset - FRAME_HEADER_SIZE


def decode_frame(header: bytes, tail: bytes, entry: IndexEntry) -> tuple[FrameHeader, bytes]:
    """Prove that `header` and `tail` (name, metadata) are the frame of `entry`; return the metadata.

    The file's bytes are the caller's to decompress, and to check against `data_crc32c`.

    Raises:
        BadFrameError: damaged, or the frame of another file.
        UnsupportedContainerError: a codec that this reader does not know.
    """
    frame = FrameHeader.decode(header)
    name = entry.name.encode()
    stored_length = 0 if entry.is_external else entry.data_length
    found = (frame.stored_length, frame.name_length, frame.meta_length, frame.flags)
    expected = (stored_length, len(name), entry.meta_length, entry.flags)
    if found != expected:
        raise BadFrameError(
            f"frame of {entry.name!r} has (stored, name, metadata lengths, flags) {found}, "
            f"INDEX says {expected}"
        )
    if google_crc32c.value(header[: _UNSEALED.size] + tail) != frame.frame_crc32c:
        raise BadFrameError(f"frame of {entry.name!r} does not have the checksum it carries")
    if not tail.startswith(name) or frame.key != frame_key(name):
        raise BadFrameError(f"frame is of {tail[: len(name)]!r}, INDEX says {entry.name!r}")
    _check_codec(frame, entry)
    return frame, tail[len(name) :]


def _check_codec(frame: FrameHeader, entry: IndexEntry) -> None:
    if entry.is_compressed != (frame.codec != CODEC_RAW):
        raise BadFrameError(f"frame of {entry.name!r} has codec {frame.codec}, which INDEX flags contradict")
    if frame.codec > CODEC_MAX:
        raise UnsupportedContainerError(
            f"file {entry.name!r} has codec {frame.codec}, this reader knows 0 to {CODEC_MAX}",
            name=entry.name,
        )
    if entry.is_compressed:
        sound = 0 < frame.stored_length < frame.raw_length <= COMPRESSED_RAW_LENGTH_MAX
    else:
        sound = frame.raw_length == frame.stored_length
    if not sound:
        raise BadFrameError(
            f"frame of {entry.name!r} has {frame.stored_length} bytes for a file of {frame.raw_length} "
            f"with codec {frame.codec}"
        )


def open_plain_frame(
    span: bytes, start: int, stop: int, *, name: bytes, digest: bytes, flags: int
) -> tuple[bytes, int, int, int, bytes] | None:
    """Prove the frame that fills `span[start:stop]`; return stored bytes, codec, length, CRC32C, metadata.

    None for everything that is not exactly the frame of this file, the codec included: `decode_frame`
    says what is wrong with it. For batches: it makes no object but the result.
    """
    magic, key, codec, found_flags, stored, raw, name_length, meta_length, data_crc32c, crc32c = (
        _LAYOUT.unpack_from(span, start)
    )
    data_start = start + FRAME_HEADER_SIZE
    data_stop = data_start + stored
    name_stop = data_stop + name_length
    if (
        magic != MAGIC
        or found_flags != flags
        or name_stop + meta_length != stop
        or codec > CODEC_MAX
        or bool(codec) != bool(flags & FLAG_COMPRESSED)
        or (stored >= raw or raw > COMPRESSED_RAW_LENGTH_MAX if codec else stored != raw)
    ):
        return None
    tail = span[data_stop:stop]
    if (
        google_crc32c.value(span[start : start + _UNSEALED.size] + tail) != crc32c
        or tail[:name_length] != name
        or key != digest[8:14]
    ):
        return None
    return span[data_start:data_stop], codec, raw, data_crc32c, tail[name_length:]


def check_data(data: bytes, crc32c: int, name: str) -> None:
    """Demand that `data` has the checksum recorded for it.

    Raises:
        ChecksumMismatchError: it does not.
    """
    found = google_crc32c.value(data)
    if found != crc32c:
        raise ChecksumMismatchError(
            f"bytes of {name!r} have CRC32C {found:08x}, expected {crc32c:08x}", name=name
        )
