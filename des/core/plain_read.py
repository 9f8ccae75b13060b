"""The short way to files of a framed container: no object made for each step of the proof.

Everything is proven that the long way proves, the metadata's content aside, which nobody asked for.
Whatever is not exactly as it should be is left to the long way, which says what is wrong.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import google_crc32c

from des.core.coalesce import joined
from des.core.plain_end import PlainEnd
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.frame import FRAME_HEADER_SIZE, open_plain_frame
from des.format.hash_pages import PAGE_SIZE, PlainRecord, Unsettled, find_many_plain, find_plain, is_page
from des.format.index import FLAG_COMPRESSED
from des.format.name_key import hash_of
from des.format.reads import run

LOCAL_GAP: Final = 1 << 12
"""Bytes of a local file between two that are wanted, read for nothing rather than by a second system call.

Measured (`benchmarks/bench_coalesce.py`): of batches that are far apart larger ones make reads slower.
"""
LOCAL_SPAN_MAX: Final = 1 << 20
"""Bytes of one joined read."""
_PLAIN: Final = frozenset({0, FLAG_COMPRESSED})

ReadAt: TypeAlias = Callable[[int, int], bytes]
"""Returns exactly so many bytes at an offset."""
Place: TypeAlias = tuple[int, int, int]
"""Where a frame starts and stops, and its flags."""


def find_place(name: bytes, digest: bytes, end: PlainEnd, read_at: ReadAt) -> Place | None:
    """Return where the frame of a name lies, by one or two reads; None to go the long way.

    Args:
        name: as it stands in the container.
        digest: SHA-256 of it.
        end: the container's.
        read_at: reads from it.
    """
    number = hash_of(digest) * end.page_count >> 64
    while number < end.written_count:
        page = read_at(PAGE_SIZE, end.pages_start + number * PAGE_SIZE)
        if not is_page(page, number, end.page_mark):
            return None
        found = find_plain(page, digest)
        if found is not Unsettled.NEXT_PAGE:
            return _place(name, found, end)
        number += 1
    return None


def read_place(
    name: bytes, digest: bytes, place: Place, dictionaries: Callable[[], Dictionaries], read_at: ReadAt
) -> bytes | None:
    """Return a file's bytes, verified, by one read; None to go the long way.

    Raises:
        CorruptContainerError: it is compressed and damaged, or its dictionary is.
    """
    start, stop, _ = place
    return _open(name, digest, place, read_at(stop - start, start), start, dictionaries, read_at)


def find_places(
    names: Sequence[bytes], digests: Sequence[bytes], end: PlainEnd, read_at: ReadAt
) -> list[Place | None]:
    """Return what `find_place` says of each name; a page of many of them is read, and taken apart, once."""
    places: list[Place | None] = [None] * len(names)
    by_page: dict[int, list[int]] = {}
    for at, digest in enumerate(digests):
        by_page.setdefault(hash_of(digest) * end.page_count >> 64, []).append(at)
    while by_page:
        full: dict[int, list[int]] = {}
        for number, page in _pages(by_page, end, read_at):
            members = by_page[number]
            found = find_many_plain(page, [digests[at] for at in members])
            for at, record in zip(members, found, strict=True):
                if record is Unsettled.NEXT_PAGE:
                    full.setdefault(number + 1, []).append(at)
                else:
                    places[at] = _place(names[at], record, end)
        by_page = full
    return places


def _pages(numbers: Iterable[int], end: PlainEnd, read_at: ReadAt) -> Iterator[tuple[int, bytes]]:
    """Yield those of the pages that are sound, neighbours read together."""
    wanted = [
        (start, start + PAGE_SIZE, number)
        for number in sorted(numbers)
        if number < end.written_count
        for start in (end.pages_start + number * PAGE_SIZE,)
    ]
    for pages in joined(wanted, gap=LOCAL_GAP, size_max=LOCAL_SPAN_MAX):
        low = pages[0][0]
        span = read_at(pages[-1][1] - low, low)
        for start, stop, number in pages:
            page = span[start - low : stop - low]
            if is_page(page, number, end.page_mark):
                yield number, page


def read_places(
    names: Sequence[bytes],
    digests: Sequence[bytes],
    places: Sequence[Place | None],
    dictionaries: Callable[[], Dictionaries],
    read_at: ReadAt,
) -> list[bytes | None]:
    """Return what `read_place` says of each name, neighbours by one read; None too where no place is known.

    Raises:
        CorruptContainerError: a file is compressed and damaged, or its dictionary is.
    """
    wanted = sorted((*place, at) for at, place in enumerate(places) if place is not None)
    files: list[bytes | None] = [None] * len(names)
    for frames in joined(wanted, gap=LOCAL_GAP, size_max=LOCAL_SPAN_MAX):
        low = frames[0][0]
        span = read_at(max(frame[1] for frame in frames) - low, low)
        for start, stop, flags, at in frames:
            place = (start, stop, flags)
            files[at] = _open(names[at], digests[at], place, span, low, dictionaries, read_at)
    return files


def _place(name: bytes, record: PlainRecord | Unsettled, end: PlainEnd) -> Place | None:
    if not isinstance(record, tuple):
        return None
    start, stored_length, flags, metadata_length = record
    stop = start + FRAME_HEADER_SIZE + stored_length + len(name) + metadata_length
    if flags not in _PLAIN or not end.data_start <= start < stop <= end.data_stop:
        return None
    return start, stop, flags


def _open(
    name: bytes,
    digest: bytes,
    place: Place,
    span: bytes,
    span_start: int,
    dictionaries: Callable[[], Dictionaries],
    read_at: ReadAt,
) -> bytes | None:
    start, stop, flags = place
    opened = open_plain_frame(
        span, start - span_start, stop - span_start, name=name, digest=digest, flags=flags
    )
    if opened is None:
        return None
    data, codec, raw_length, crc32c, _ = opened
    if codec:

        def read(wanted: ByteRange) -> bytes:
            return read_at(wanted.size, wanted.start)

        data = run(dictionaries().decompress(data, codec=codec, raw_length=raw_length), read)
    return data if google_crc32c.value(data) == crc32c else None
