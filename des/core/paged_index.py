"""Finds names of one container in its pages, which a cache keeps."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeAlias

from des.core.coalesce import join_ranges
from des.core.container_index import ContainerIndex
from des.core.index_cache import IndexCache, PageKey, Pages
from des.core.page_proof import leads_to_all
from des.format.byte_range import ByteRange
from des.format.errors import CorruptContainerError
from des.format.footer import Footer
from des.format.hash_pages import PAGE_SIZE, RECORDS_MAX, BadPageError, PagesGeometry, Record, record_count
from des.format.index import IndexEntry
from des.format.layout import Layout
from des.format.locate import check_record, look_up
from des.format.name_key import name_digest

Read: TypeAlias = Callable[[ByteRange], Coroutine[Any, Any, bytes]]


class PagedIndex:
    """The pages of one object. Holds none of them; each read is the caller's, who counts it."""

    def __init__(self, pages: PagesGeometry, etag: str, cache: IndexCache) -> None:
        self.pages = pages
        self._etag = etag
        self._cache = cache

    async def find(self, digest: bytes, read: Read) -> list[Record]:
        """Return the records of a name; one request of 8 KiB where its page is not in the cache.

        Raises:
            CorruptContainerError: the page is damaged in the object.
        """
        plan = look_up(self.pages, digest)
        try:
            page = next(plan)
            while True:
                page = plan.send(await self._page(page, self.pages.read_range(page), read, alone=True))
        except StopIteration as done:
            records: list[Record] = done.value
            return records

    async def find_many(
        self, digests: Iterable[bytes], read: Read, *, gap: int, request_size: int
    ) -> dict[bytes, list[Record]]:
        """Return the records of many names, pages near each other read together."""
        wanted = {digest: self.pages.page_of(digest) for digest in digests}
        held = await self.hold(wanted.values(), read, gap=gap, request_size=request_size)
        found: dict[bytes, list[Record]] = {}
        for digest in wanted:
            plan = look_up(self.pages, digest)
            try:
                page = next(plan)
                while True:
                    if page not in held:
                        held[page] = await self._page(page, self.pages.read_range(page), read)
                    page = plan.send(held[page])
            except StopIteration as done:
                found[digest] = done.value
        return found

    async def hold(
        self, numbers: Iterable[int], read: Read, *, gap: int, request_size: int
    ) -> dict[int, bytes]:
        """Return these pages, and perhaps neighbours, those that are not cached read together.

        Raises:
            CorruptContainerError: a page is damaged in the object.
        """
        held: dict[int, bytes] = {}
        missing: list[int] = []
        peek, uuid, etag = self._cache.peek, self.pages.uuid, self._etag
        for number in numbers:
            known = peek(PageKey(uuid, etag, number))
            if known is None:
                missing.append(number)
            else:
                held[number] = known
        if not missing:
            return held
        ranges = [(page, self.pages.read_range(page)) for page in sorted(set(missing))]
        groups = join_ranges((one for _, one in ranges), gap=gap, size_max=max(request_size, 2 * PAGE_SIZE))

        async def held_read(span: ByteRange) -> bytes:
            data = await read(span)
            held.update(self._split(span, data))
            return data

        waiting = iter(groups)
        group = next(waiting, None)
        for page, one in ranges:
            while group is not None and one.stop > group.stop:
                group = next(waiting, None)
            assert group is not None
            if page not in held:
                rest = ByteRange(self.pages.start + page * PAGE_SIZE, group.stop)
                held[page] = await self._page(page, rest, held_read)
        return held

    async def _page(self, page: int, span: ByteRange, read: Read, *, alone: bool = False) -> bytes:
        """Return a page; where it is not in the cache, by reading `span`, which starts with it.

        The others of `span` are kept too or, where the page was wanted `alone`, the next one only if names
        may have spilt into it: kept for nothing it would double what a file costs in memory.
        """

        async def load() -> Pages:
            pages = self._split(span, await read(span))
            if alone and record_count(pages[page]) < RECORDS_MAX:
                pages = {page: pages[page]}
            return {self._key(number): data for number, data in pages.items()}

        return await self._cache.fetch(self._key(page), load, self._is_valid)

    def _split(self, span: ByteRange, data: bytes) -> dict[int, bytes]:
        first = (span.start - self.pages.start) // PAGE_SIZE
        pages: dict[int, bytes] = {}
        for start in range(0, len(data), PAGE_SIZE):
            number = first + start // PAGE_SIZE
            page = data[start : start + PAGE_SIZE]
            self.pages.check_page(number, page)
            pages[number] = page
        return pages

    def _key(self, page: int) -> PageKey:
        return PageKey(self.pages.uuid, self._etag, page)

    def _is_valid(self, key: PageKey, data: bytes) -> bool:
        try:
            self.pages.check_page(key.page, data)
        except CorruptContainerError:
            return False
        return True


def check_all_pages(pages: PagesGeometry, data: bytes, index: ContainerIndex, footer: Footer) -> None:
    """Demand that the pages in `data` lead to each file of INDEX, and hold no more records than files.

    For all files at once where that can be; else as a reader would, one by one: 10 us a file.

    Raises:
        CorruptContainerError: they do not, or a page is damaged.
    """
    held = [data[start : start + PAGE_SIZE] for start in range(0, len(data), PAGE_SIZE)]
    for number, page in enumerate(held):
        pages.check_page(number, page)
    count = sum(map(record_count, held))
    if count != len(index):
        raise BadPageError(f"HASHPAGES has {count} records of {len(index)} files")
    if leads_to_all(pages, held, index, footer):
        return
    for ordinal, entry in enumerate(index):
        plan = look_up(pages, name_digest(entry.name.encode()))
        try:
            page_number = next(plan)
            while True:
                page_number = plan.send(held[page_number])
        except StopIteration as done:
            records: list[Record] = done.value
        if not any(record.ordinal == ordinal and _agrees(record, entry, footer) for record in records):
            raise BadPageError(f"HASHPAGES does not lead to {entry.name!r}, file {ordinal} of INDEX")


def _agrees(record: Record, entry: IndexEntry, footer: Footer) -> bool:
    if record.check_index:
        return True
    found = check_record(record, entry.name, footer)
    if footer.layout is Layout.FRAMED:
        return found == entry
    place = (found.data_offset, found.data_length, found.flags)
    return place == (entry.data_offset, entry.data_length, entry.flags)
