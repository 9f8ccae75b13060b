"""What to read of a container, and in which order, without reading it.

A plan is a generator: it yields a `ByteRange`, is sent exactly these bytes, and returns its result.
`DesReader` drives it with pread, `S3DesReader` with ranged GETs, a test with slices.
"""

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, TypeAlias, TypeVar

from des.format.byte_range import ByteRange
from des.format.footer import FOOTER_SIZE, BadFooterError, Footer
from des.format.frame import FRAME_HEADER_SIZE, check_data, decode_frame, frame_start
from des.format.header import HEADER_SIZE, check_header
from des.format.index import IndexEntry
from des.format.layout import Layout
from des.format.metadata import Metadata, check_metadata_length, decode_metadata

T = TypeVar("T")
Reads: TypeAlias = Generator[ByteRange, bytes, T]
"""A pure plan: yields a range it needs, is sent the bytes, returns a `T`."""

TAIL_SIZE: Final = 1 << 16
"""Bytes read first of an unknown container: footer and INDEX of about 900 files in one request."""
WHOLE_FRAME_MAX: Final = 1 << 16
"""A frame up to this is read whole even where only its metadata is wanted: one request, not two."""
JOIN_GAP: Final = 1 << 16
"""Bytes read for nothing rather than a second request, where a v1 file and its metadata lie close."""


def run(plan: Reads[T], read: Callable[[ByteRange], bytes]) -> T:
    """Drive a plan with a blocking `read`."""
    try:
        wanted = next(plan)
        while True:
            wanted = plan.send(read(wanted))
    except StopIteration as done:
        result: T = done.value
        return result


async def run_async(plan: Reads[T], read: Callable[[ByteRange], Coroutine[Any, Any, bytes]]) -> T:
    """Drive a plan with an awaitable `read`."""
    try:
        wanted = next(plan)
        while True:
            wanted = plan.send(await read(wanted))
    except StopIteration as done:
        result: T = done.value
        return result


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


def read_file(entry: IndexEntry, layout: Layout) -> Reads[tuple[bytes, Metadata]]:
    """Plan the reads of one file inside the container, whole and verified, with its metadata.

    One read when framed. In a v1 container two, or one where file and metadata lie close.

    Raises:
        CorruptContainerError: what is there is not this file.
        UnsupportedContainerError: the entry is compressed, encrypted or deleted.
    """
    entry.check_readable()
    check_metadata_length(entry)
    ranges = file_ranges(entry, layout)
    if layout is Layout.FRAMED:
        span = yield ranges[0]
        data_stop = FRAME_HEADER_SIZE + entry.data_length
        frame, encoded = decode_frame(span[:FRAME_HEADER_SIZE], span[data_stop:], entry)
        data = span[FRAME_HEADER_SIZE:data_stop]
        check_data(data, frame.data_crc32c, entry.name)
        return data, decode_metadata(encoded, entry).with_crc32c(frame.data_crc32c)
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


def read_data(entry: IndexEntry, layout: Layout) -> Reads[bytes]:
    """Plan the reads of one file, as `read_file`, for its bytes alone."""
    data, _ = yield from read_file(entry, layout)
    return data


def read_metadata(entry: IndexEntry, layout: Layout) -> Reads[Metadata]:
    """Plan the reads of one file's metadata: one, or two for a frame longer than `WHOLE_FRAME_MAX`.

    The file itself may be unreadable for this reader (compressed, encrypted, deleted).

    Raises:
        CorruptContainerError: what is there is not this file's metadata.
    """
    check_metadata_length(entry)
    meta_stop = entry.meta_offset + entry.meta_length
    if layout is Layout.V1:
        return decode_metadata((yield ByteRange(entry.meta_offset, meta_stop)), entry)
    start = frame_start(entry)
    tail_start = entry.meta_offset - len(entry.name.encode())
    if meta_stop - start <= WHOLE_FRAME_MAX:
        span = yield ByteRange(start, meta_stop)
        header, tail = span[:FRAME_HEADER_SIZE], span[tail_start - start :]
    else:
        header = yield ByteRange(start, start + FRAME_HEADER_SIZE)
        tail = yield ByteRange(tail_start, meta_stop)
    frame, encoded = decode_frame(header, tail, entry)
    metadata = decode_metadata(encoded, entry)
    return metadata if entry.is_external else metadata.with_crc32c(frame.data_crc32c)
