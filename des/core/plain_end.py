"""The short way into a framed container: its end is proven in one piece, and no object made of each part.

What is demanded is what `open_end`, `ExtGeometry` and `PagesGeometry` demand. Where any of it does not hold,
the long way is gone, which says what is wrong.
"""

from struct import Struct
from typing import Final, NamedTuple

import google_crc32c

from des.format import ext_trailer, footer
from des.format.checksums import SEALED
from des.format.ext_trailer import (
    FEATURES_NEEDED,
    FEATURES_READABLE,
    SECTION_COUNT_MAX,
    SECTION_ENTRY_SIZE,
    TRAILER_SIZE,
    Feature,
)
from des.format.footer import FOOTER_SIZE, INDEX_ENTRY_SIZE_MIN, INDEX_LENGTH_MAX
from des.format.hash_pages import PAGE_COUNT_MAX, PAGE_SIZE, page_mark
from des.format.header import HEADER_SIZE
from des.format.section_table import SectionKind

# Trailer (section 13) and footer (section 8) of docs/format.md, which stand side by side.
_END: Final = Struct("<8sHHI16sQQIIII 16sQQQQQQQ")
assert _END.size == TRAILER_SIZE + FOOTER_SIZE
_SECTION: Final = Struct("<HHIQQQII")
assert _SECTION.size == SECTION_ENTRY_SIZE
_FOOTER_MARK: Final = footer.MAGIC + bytes([footer.VERSION]) + footer.RESERVED
_TRAILER_MARK: Final = (ext_trailer.MAGIC, ext_trailer.VERSION, TRAILER_SIZE)
# Plain numbers: members of an enum cost every opening several microseconds.
_FRAMED: Final = int(Feature.FRAMED)
_UNREADABLE: Final = FEATURES_NEEDED & ~FEATURES_READABLE
_HASHPAGES: Final = int(SectionKind.HASHPAGES)


class PlainEnd(NamedTuple):
    """What is needed to read a file of a framed container by name."""

    data_start: int
    data_stop: int
    file_count: int
    pages_start: int
    """First byte of HASHPAGES."""
    written_count: int
    """Pages that there are."""
    page_count: int
    """What a page number is computed with."""
    page_mark: bytes
    """What every page of this container says behind its count."""


def open_plain(tail: bytes, size: int) -> PlainEnd | None:
    """Prove the end of a container of `size` bytes, of which `tail` are the last; None to go the long way."""
    end_start = len(tail) - _END.size
    if end_start < 0:
        return None
    (
        magic,
        version,
        trailer_length,
        features,
        uuid,
        ext_start,
        table_start,
        section_count,
        table_crc32c,
        footer_crc32c,
        _,
        mark,
        data_start,
        data_length,
        meta_start,
        meta_length,
        index_start,
        index_length,
        file_count,
    ) = _END.unpack_from(tail, end_start)
    value = google_crc32c.value
    data_stop, index_stop = data_start + data_length, index_start + index_length
    table_at = table_start - size + len(tail)
    if (
        (magic, version, trailer_length) != _TRAILER_MARK
        or mark != _FOOTER_MARK
        or value(tail[end_start:-FOOTER_SIZE]) != SEALED
        or value(tail[-FOOTER_SIZE:]) != footer_crc32c
        or features & _UNREADABLE
        or not features & _FRAMED
        or not HEADER_SIZE <= data_start <= data_stop <= meta_start <= index_start <= index_stop
        or meta_length
        or not 0 < file_count * INDEX_ENTRY_SIZE_MIN <= index_length <= INDEX_LENGTH_MAX
        or not index_stop == ext_start <= table_start
        or section_count > SECTION_COUNT_MAX
        or not 0 <= table_at == end_start - section_count * SECTION_ENTRY_SIZE
        or value(tail[table_at:end_start]) != table_crc32c
    ):
        return None
    stop = ext_start
    kinds = set()
    pages_start = pages_length = page_count = 0
    for kind, _, _, start, length, count, _, param in _SECTION.iter_unpack(tail[table_at:end_start]):
        if start < stop:
            return None
        stop = start + length
        kinds.add(kind)
        if kind == _HASHPAGES and count == file_count:
            pages_start, pages_length, page_count = start, length, param
    if (
        stop > table_start
        or len(kinds) != section_count
        or not 1 <= page_count <= PAGE_COUNT_MAX
        or pages_length not in {page_count * PAGE_SIZE, (page_count + 1) * PAGE_SIZE}
    ):
        return None
    return PlainEnd(
        data_start,
        data_stop,
        file_count,
        pages_start,
        pages_length // PAGE_SIZE,
        page_count,
        page_mark(uuid),
    )
