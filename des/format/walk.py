"""Rebuilds INDEX from the frames of a container whose tail is lost (docs/format.md, section 5)."""

from dataclasses import dataclass
from typing import Final

import google_crc32c

from des.format.byte_range import ByteRange
from des.format.dictionaries import DIRECTORY_SIZE, Dictionaries
from des.format.errors import CorruptContainerError, UnsupportedContainerError
from des.format.frame import FRAME_HEADER_SIZE, FrameHeader, check_data, decode_frame
from des.format.header import HEADER_SIZE
from des.format.index import FLAG_EXTERNAL, IndexEntry
from des.format.metadata import decode_metadata, decode_size
from des.format.reads import Reads

READ_SIZE_MAX: Final = 1 << 22
"""Bytes of a file held at once while its checksum is computed."""


@dataclass(frozen=True, slots=True)
class Walk:
    """What a walk over frames found."""

    entries: list[IndexEntry]
    """The files whose frames are whole, in the order they were written."""
    start: int
    """Where the first frame stands: the start of DATA."""
    stop: int
    """Where the first byte stands that is no whole frame: the end of DATA in a sound container."""


def find_data(size: int) -> Reads[tuple[int, Dictionaries]]:
    """Plan the read that tells, without a footer, where frames start, and what they are compressed with."""
    dictionaries = Dictionaries(None)
    if size < HEADER_SIZE + DIRECTORY_SIZE:
        return HEADER_SIZE, dictionaries
    try:
        directory = yield from dictionaries.read_directory()
    except CorruptContainerError:
        return HEADER_SIZE, dictionaries
    return HEADER_SIZE + directory.section_length, dictionaries


def walk_frames(size: int) -> Reads[Walk]:
    """Plan the reads of every byte that belongs to whole frames, checking all of them.

    Stops at the first frame that is not whole, and never looks for another behind it: its length could
    not be trusted, and bytes that look like a frame may be a user's file.
    """
    start, dictionaries = yield from find_data(size)
    entries: list[IndexEntry] = []
    place = start
    while place + FRAME_HEADER_SIZE <= size:
        try:
            entry = yield from _walk_frame(place, size, dictionaries)
        except (CorruptContainerError, UnsupportedContainerError):
            break
        entries.append(entry)
        place = entry.meta_offset + entry.meta_length
    return Walk(entries, start, place)


def _walk_frame(place: int, size: int, dictionaries: Dictionaries) -> Reads[IndexEntry]:
    encoded_header = yield ByteRange(place, place + FRAME_HEADER_SIZE)
    header = FrameHeader.decode(encoded_header)
    data_start = place + FRAME_HEADER_SIZE
    name_start = data_start + header.stored_length
    meta_start = name_start + header.name_length
    stop = meta_start + header.meta_length
    if stop > size or not header.name_length or not header.meta_length:
        raise CorruptContainerError(f"frame at {place} ends at {stop}, the container at {size}")
    tail = yield ByteRange(name_start, stop)
    try:
        name = tail[: header.name_length].decode()
    except UnicodeDecodeError as error:
        raise CorruptContainerError(f"frame at {place} has a name that is not UTF-8") from error
    external = bool(header.flags & FLAG_EXTERNAL)
    entry = IndexEntry(
        name=name,
        data_offset=0 if external else data_start,
        data_length=decode_size(tail[header.name_length :], name) if external else header.stored_length,
        meta_offset=meta_start,
        meta_length=header.meta_length,
        flags=header.flags,
    )
    _, metadata = decode_frame(encoded_header, tail, entry)
    decode_metadata(metadata, entry, raw_length=None if external else header.raw_length)
    if entry.is_compressed:
        data = yield from dictionaries.decompress(
            (yield ByteRange(data_start, name_start)), codec=header.codec, raw_length=header.raw_length
        )
        check_data(data, header.data_crc32c, name)
        return entry
    crc32c = 0
    for low in range(data_start, name_start, READ_SIZE_MAX):
        crc32c = google_crc32c.extend(crc32c, (yield ByteRange(low, min(low + READ_SIZE_MAX, name_start))))
    if crc32c != header.data_crc32c:
        raise CorruptContainerError(f"bytes of the frame at {place} do not have its checksum")
    return entry
