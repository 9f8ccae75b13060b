"""The short way to a file of a framed container: two reads, and no object made for each step of the proof.

Everything is proven that the long way proves, the metadata's content aside, which nobody asked for.
Whatever is not exactly as it should be is left to the long way, which says what is wrong.
"""

from collections.abc import Callable

import google_crc32c

from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.footer import Footer
from des.format.frame import FRAME_HEADER_SIZE, open_plain_frame
from des.format.hash_pages import PAGE_SIZE, PagesGeometry, find_plain
from des.format.index import FLAG_COMPRESSED
from des.format.reads import run

_PLAIN: frozenset[int] = frozenset({0, FLAG_COMPRESSED})


def read_plain(
    name: bytes,
    digest: bytes,
    *,
    pages: PagesGeometry,
    footer: Footer,
    dictionaries: Dictionaries,
    read: Callable[[ByteRange], bytes],
) -> bytes | None:
    """Return a file's bytes, verified; None to go the long way.

    Args:
        name: as it stands in the container.
        digest: SHA-256 of it.
        pages: where HASHPAGES lies.
        footer: the container's, of layout `framed`.
        dictionaries: the container's.
        read: returns exactly the bytes of a range.

    Raises:
        CorruptContainerError: the page is damaged, or a compressed file is.
    """
    number = pages.page_of(digest)
    page_start = pages.start + number * PAGE_SIZE
    page = read(ByteRange(page_start, page_start + PAGE_SIZE))
    pages.check_page(number, page)
    found = find_plain(page, digest)
    if not isinstance(found, tuple):
        return None
    start, stored_length, flags, metadata_length = found
    stop = start + FRAME_HEADER_SIZE + stored_length + len(name) + metadata_length
    if flags not in _PLAIN or not footer.data_start <= start < stop <= footer.data_stop:
        return None
    span = read(ByteRange(start, stop))
    opened = open_plain_frame(span, 0, len(span), name=name, digest=digest, flags=flags)
    if opened is None:
        return None
    data, codec, raw_length, crc32c, _ = opened
    if codec:
        data = run(dictionaries.decompress(data, codec=codec, raw_length=raw_length), read)
    return data if google_crc32c.value(data) == crc32c else None
