"""What a batch asks for and what comes back: files, or windows of them, in parts of bounded size."""

from collections.abc import AsyncGenerator
from typing import NamedTuple

import google_crc32c

from des.errors import DesError
from des.files import FileInfo, window_of
from des.retrieval.opened_file import OpenedFile


class Wanted(NamedTuple):
    """One file, or window of a file, that is asked for."""

    name: str
    offset: int = 0
    limit: int = 0
    """As `window_of` reads them."""


class Part(NamedTuple):
    """Some bytes of one wanted file, or why there are none."""

    at: int
    """Place in what was asked for."""
    info: FileInfo | None
    """In a file's first part."""
    offset: int
    """Of `data` in the file."""
    data: bytes
    crc32c: int
    """Of `data`."""
    last: bool
    error: DesError | None = None
    """Set in a part that is the last of its file."""


def failed(at: int, error: DesError) -> Part:
    """Return the part that says why a file cannot be read."""
    return Part(at, None, 0, b"", 0, last=True, error=error)


def cut(
    parts: list[Part], at: int, wanted: Wanted, info: FileInfo, data: bytes, crc32c: int, part_bytes: int
) -> None:
    """Add the parts of a file that is in memory, whole and verified.

    Raises:
        InvalidInputError, OutOfRangeError: the window is none of this file's.
    """
    _, offset, limit = wanted
    start, stop = 0, len(data)
    if offset or limit:
        start, stop = window_of(offset, limit, stop)
    if stop - start <= part_bytes:
        if stop - start != len(data):
            data = data[start:stop]
            crc32c = google_crc32c.value(data)
        # As `Part(…)`, without the call in between that a named tuple's constructor is.
        parts.append(tuple.__new__(Part, (at, info, start, data, crc32c, True, None)))
        return
    first: FileInfo | None = info
    for position in range(start, stop, part_bytes):
        piece = data[position : min(stop, position + part_bytes)]
        last = position + len(piece) == stop
        parts.append(Part(at, first, position, piece, google_crc32c.value(piece), last=last))
        first = None


async def stream(at: int, wanted: Wanted, opened: OpenedFile, part_bytes: int) -> AsyncGenerator[Part, None]:
    """Yield the parts of a file that was opened alone."""
    info: FileInfo | None = opened.info
    position = 0
    try:
        position, stop = window_of(wanted.offset, wanted.limit, opened.info.size)
        if position == stop:
            yield Part(at, info, position, b"", 0, last=True)
            return
        async for piece in opened.read(position, stop):
            for start in range(0, len(piece), part_bytes):
                data = piece[start : start + part_bytes]
                after = position + len(data)
                yield Part(at, info, position, data, google_crc32c.value(data), last=after == stop)
                info, position = None, after
    except DesError as error:
        yield Part(at, None, position, b"", 0, last=True, error=error)
