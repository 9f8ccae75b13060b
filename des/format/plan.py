"""What to read of a container, and in which order, without reading it."""

from typing import Final

from des.format.byte_range import ByteRange
from des.format.compression import COMPRESSED_RAW_LENGTH_MAX
from des.format.dictionaries import Dictionaries
from des.format.footer import FOOTER_SIZE, BadFooterError, Footer
from des.format.frame import FRAME_HEADER_SIZE, BadFrameError, check_data, decode_frame, frame_start
from des.format.header import HEADER_SIZE, check_header
from des.format.index import IndexEntry
from des.format.layout import Layout
from des.format.metadata import Metadata, check_metadata_length, decode_metadata
from des.format.reads import Reads, run, run_async

__all__ = [
    "JOIN_GAP",
    "TAIL_SIZE",
    "WHOLE_FRAME_MAX",
    "Reads",
    "file_ranges",
    "metadata_ranges",
    "open_container",
    "read_data",
    "read_file",
    "read_index",
    "read_metadata",
    "run",
    "run_async",
]

TAIL_SIZE: Final = 1 << 16
"""Bytes read first of an unknown container: footer and INDEX of about 900 files in one request."""
WHOLE_FRAME_MAX: Final = 1 << 16
"""A frame up to this is read whole even where only its metadata is wanted: one request, not two."""
JOIN_GAP: Final = 1 << 16
"""Bytes read for nothing rather than a second request, where a v1 file and its metadata lie close."""


def open_container(size: int, *, tail_size: int = TAIL_SIZE) -> Reads[tuple[Footer, bytes]]:
    """Plan the reads that fetch footer and INDEX of a container of `size` bytes.

    One read when INDEX lies in the tail, otherwise two. The header is checked when the tail has it.

    Raises:
        BadFooterError: the container is too short, or its footer points outside it.
        BadHeaderError: the container does not start as one.
    """
    if size < HEADER_SIZE + FOOTER_SIZE:
        raise BadFooterError(f"container has {size} bytes, fewer than header and footer")
    tail_start = max(0, size - max(tail_size, FOOTER_SIZE))
    tail = yield ByteRange(tail_start, size)
    footer = Footer.decode(tail[-FOOTER_SIZE:])
    footer.check(size)
    if tail_start == 0:
        check_header(tail[:HEADER_SIZE])
    if footer.index_start >= tail_start:
        return footer, tail[footer.index_start - tail_start : footer.index_stop - tail_start]
    index = yield from read_index(footer)
    return footer, index


def read_index(footer: Footer) -> Reads[bytes]:
    """Plan the read of INDEX, where the footer is known from elsewhere. None when it is empty."""
    if not footer.index_length:
        return b""
    return (yield ByteRange(footer.index_start, footer.index_stop))


def file_ranges(entry: IndexEntry, layout: Layout) -> list[ByteRange]:
    """Return the ranges that `read_file` will ask for; a batch reads them joined beforehand."""
    if layout is Layout.FRAMED:
        return [ByteRange(frame_start(entry), entry.meta_offset + entry.meta_length)]
    metadata = ByteRange(entry.meta_offset, entry.meta_offset + entry.meta_length)
    if not entry.data_length:
        return [metadata]
    data = ByteRange(entry.data_offset, entry.data_offset + entry.data_length)
    if 0 <= metadata.start - data.stop <= JOIN_GAP:
        return [ByteRange(data.start, metadata.stop)]
    return [data, metadata]


def read_file(entry: IndexEntry, layout: Layout, dictionaries: Dictionaries) -> Reads[tuple[bytes, Metadata]]:
    """Plan the reads of one file inside the container, whole and verified, with its metadata.

    One read when framed, and one more for the first file that needs a dictionary. In a v1 container two,
    or one where file and metadata lie close.

    Raises:
        CorruptContainerError: what is there is not this file.
        UnsupportedContainerError: the entry is encrypted or deleted, or has a codec that is not known.
    """
    entry.check_readable(layout)
    check_metadata_length(entry)
    if entry.is_compressed and entry.data_length >= COMPRESSED_RAW_LENGTH_MAX:
        raise BadFrameError(
            f"compressed file {entry.name!r} takes {entry.data_length} bytes, "
            f"expected fewer than {COMPRESSED_RAW_LENGTH_MAX}"
        )
    ranges = file_ranges(entry, layout)
    if layout is Layout.FRAMED:
        span = yield ranges[0]
        data_stop = FRAME_HEADER_SIZE + entry.data_length
        frame, encoded = decode_frame(span[:FRAME_HEADER_SIZE], span[data_stop:], entry)
        data = yield from dictionaries.decompress(
            span[FRAME_HEADER_SIZE:data_stop], codec=frame.codec, raw_length=frame.raw_length
        )
        check_data(data, frame.data_crc32c, entry.name)
        metadata = decode_metadata(encoded, entry, raw_length=frame.raw_length)
        return data, metadata.with_crc32c(frame.data_crc32c)
    if len(ranges) == 1:
        span = yield ranges[0]
        data = span[: entry.data_length]
        encoded = span[len(span) - entry.meta_length :]
    else:
        data = yield ranges[0]
        encoded = yield ranges[1]
    metadata = decode_metadata(encoded, entry)
    if metadata.system.crc32c is not None:
        check_data(data, metadata.system.crc32c, entry.name)
    return data, metadata


def read_data(entry: IndexEntry, layout: Layout, dictionaries: Dictionaries) -> Reads[bytes]:
    """Plan the reads of one file, as `read_file`, for its bytes alone."""
    data, _ = yield from read_file(entry, layout, dictionaries)
    return data


def metadata_ranges(entry: IndexEntry, layout: Layout) -> list[ByteRange]:
    """Return the ranges that `read_metadata` will ask for."""
    meta_stop = entry.meta_offset + entry.meta_length
    if layout is Layout.V1:
        return [ByteRange(entry.meta_offset, meta_stop)]
    start = frame_start(entry)
    if meta_stop - start <= WHOLE_FRAME_MAX:
        return [ByteRange(start, meta_stop)]
    tail_start = entry.meta_offset - len(entry.name.encode())
    return [ByteRange(start, start + FRAME_HEADER_SIZE), ByteRange(tail_start, meta_stop)]


def read_metadata(entry: IndexEntry, layout: Layout) -> Reads[Metadata]:
    """Plan the reads of one file's metadata: one, or two for a frame longer than `WHOLE_FRAME_MAX`.

    The file itself may be unreadable for this reader (encrypted, deleted).

    Raises:
        CorruptContainerError: what is there is not this file's metadata.
    """
    check_metadata_length(entry)
    ranges = metadata_ranges(entry, layout)
    header = yield ranges[0]
    if layout is Layout.V1:
        return decode_metadata(header, entry)
    if len(ranges) == 1:
        tail = header[-len(entry.name.encode()) - entry.meta_length :]
        header = header[:FRAME_HEADER_SIZE]
    else:
        tail = yield ranges[1]
    frame, encoded = decode_frame(header, tail, entry)
    metadata = decode_metadata(encoded, entry, raw_length=None if entry.is_external else frame.raw_length)
    return metadata if entry.is_external else metadata.with_crc32c(frame.data_crc32c)
