"""A container as an object of a store: ranged reads of it, and what its end says."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from des.core.container_index import ContainerIndex
from des.core.container_memory import ContainerMemory
from des.core.index_cache import IndexCache, InMemoryIndexCache
from des.core.paged_index import PagedIndex
from des.format.byte_range import ByteRange
from des.format.errors import CorruptContainerError
from des.format.ext import Ext, ExtGeometry, open_end, read_ext, read_section
from des.format.ext_trailer import TRAILER_SIZE
from des.format.footer import FOOTER_SIZE, BadFooterError, Footer
from des.format.index_directory import Group, decode_directory
from des.format.layout import Layout
from des.format.plan import read_index, run_async
from des.format.section_table import BadSectionError, Section, SectionKind
from des.storage.boto3_reads import Boto3Reads
from des.storage.object_store import RangedObjects

OWN_CACHE_BYTES: Final = 16 << 20
"""Bytes of pages that a reader without a shared cache keeps: those of about 450,000 files."""
PARSE_INLINE_MAX: Final = 1 << 18
"""Bytes of INDEX parsed on the event loop (about 2 ms); a longer one goes to a thread."""


@dataclass(slots=True)
class Cost:
    """What a reader asked of the store so far."""

    requests: int = 0
    bytes: int = 0


class ContainerObject:
    """One container in an object store, opened at the first read. Safe for many tasks of one event loop.

    Every request carries the etag, so that no two reads mix two objects.
    """

    def __init__(
        self,
        store: RangedObjects | Any,
        key: str,
        *,
        bucket: str | None,
        etag: str | None,
        size: int | None,
        footer: Footer | None,
        ext: ExtGeometry | None,
        index: ContainerIndex | None,
        cache: IndexCache | None,
        memory: ContainerMemory | None,
        tail_size: int,
    ) -> None:
        """Name the container; arguments as of `S3DesReader`."""
        if footer is not None and size is not None:
            footer.check(size)
        if ext is not None and (footer is None or size is None):
            raise ValueError("ext comes without footer and size")
        self.key: Final = key
        self.cost: Final = Cost()
        self.memory: Final = ContainerMemory() if memory is None else memory
        self.cache: Final[IndexCache] = InMemoryIndexCache(OWN_CACHE_BYTES) if cache is None else cache
        self.store: Final[RangedObjects] = store if bucket is None else Boto3Reads(store, bucket)
        self.etag = etag
        """As the store gave it, once known."""
        self.footer = footer
        """Once known."""
        self.geometry = ext
        """Once known; None also where names are found through INDEX."""
        self.pages: PagedIndex | None = None
        """None where names are found through INDEX, or before `open`."""
        self._size = size
        self._index = index
        self._tail_size = tail_size
        self._tail = (0, b"")
        self._is_open = False
        self._opening = asyncio.Lock()

    @property
    def layout(self) -> Layout:
        """How the files stand in it."""
        return self.known_footer().layout if self._index is None else self._index.layout

    def known_footer(self) -> Footer:
        """Return the footer of an opened container."""
        assert self.footer is not None
        return self.footer

    @property
    def data_start(self) -> int:
        """Where DATA starts."""
        return self.known_footer().data_start if self._index is None else self._index.data_start

    async def open(self) -> None:
        """Learn what is not known yet: at most the container's end, and INDEX where there is no EXT.

        Later calls do nothing.

        Raises:
            CorruptContainerError: the object is no container, or a damaged one.
            NoSuchObjectError: there is no such object.
        """
        if self._is_open:
            return
        async with self._opening:
            if self._is_open:
                return
            if self._index is None and self.geometry is None:
                await self._read_end()
            elif self.etag is None:
                await self._read_head()
            assert self.etag is not None
            if self._index is None and self.geometry is not None:
                self.pages = PagedIndex(self.geometry.pages, self.etag, self.cache)
            elif self._index is None:
                await self._load_index()
            self._is_open = True

    async def read(self, wanted: ByteRange) -> bytes:
        """Return exactly the bytes of `wanted`; no request for what the first read brought along."""
        start, tail = self._tail
        if wanted.start >= start and wanted.stop <= start + len(tail):
            return tail[wanted.start - start : wanted.stop - start]
        self.cost.requests += 1
        self.cost.bytes += wanted.size
        return await self.store.get_range(self.key, wanted.start, wanted.stop, etag=self.etag)

    async def index(self) -> ContainerIndex:
        """Return INDEX, whole and proven."""
        await self.ext()
        async with self._opening:
            if self._index is None:
                await self._load_index()
        assert self._index is not None
        return self._index

    async def section(self, kind: SectionKind) -> Section | None:
        """Return where a section lies; None where the container has none."""
        ext = await self.ext()
        return None if ext is None else ext.section(kind)

    async def directory(self) -> Section:
        """Return where INDEXDIR lies, which records refer to.

        Raises:
            BadSectionError: there is none.
        """
        section = await self.section(SectionKind.INDEXDIR)
        if section is None:
            raise BadSectionError(f"{self.key!r} has HASHPAGES that refer to INDEXDIR, and has none")
        return section

    async def ext(self) -> Ext | None:
        """Return EXT's table; one request where only its place was known.

        That request brings up to 64 KiB before the table along: the small sections, often with INDEXDIR.
        """
        await self.open()
        async with self._opening:
            if self.memory.ext is None and self.geometry is not None:
                assert self._size is not None
                footer = self.known_footer()
                pages = self.geometry.pages
                start = max(footer.index_stop, self.geometry.table_start - self._tail_size)
                if pages.start < start:
                    start = min(max(start, pages.start + pages.length), self.geometry.table_start)
                stop = self._size - FOOTER_SIZE
                if start < stop and not self._tail[1]:
                    self._tail = (start, await self.read(ByteRange(start, stop)))
                ext = await run_async(read_ext(self._size, self.geometry.table_start, footer), self.read)
                if ExtGeometry.of(ext, footer) != self.geometry:
                    raise BadSectionError(f"EXT of {self.key!r} is not as recorded")
                self.memory.ext = ext
        return self.memory.ext

    async def _read_head(self) -> None:
        self.cost.requests += 1
        info = await self.store.head(self.key)
        if self._size not in {None, info.size}:
            raise CorruptContainerError(f"{self.key!r} has {info.size} bytes, expected {self._size}")
        self.etag, self._size = info.etag, info.size
        if self.footer is not None:
            self.footer.check(info.size)

    async def _read_end(self) -> None:
        """Read the container's end, in one request unless EXT is unusually wide."""
        wanted = max(self._tail_size, FOOTER_SIZE + TRAILER_SIZE)
        if self.etag is None or self._size is None:
            self.cost.requests += 1
            info, tail = await self.store.get_tail(self.key, wanted, etag=self.etag)
            self.cost.bytes += len(tail)
            if self._size not in {None, info.size}:
                raise CorruptContainerError(f"{self.key!r} has {info.size} bytes, expected {self._size}")
            self.etag, self._size = info.etag, info.size
        else:
            start = max(0, self._size - wanted)
            tail = await self.read(ByteRange(start, self._size)) if self._size else b""
        opened = await run_async(open_end(self._size, tail=tail), self.read)
        if self.footer not in {None, opened.footer}:
            raise BadFooterError(f"footer of {self.key!r} is not as recorded")
        self.footer, self.memory.ext = opened.footer, opened.ext
        self.geometry = ExtGeometry.of(opened.ext, opened.footer)
        if opened.ext is not None or opened.footer.index_start >= opened.tail_start:
            # Never a file's bytes, nor some pages only: what a file costs must not depend on its name.
            start = max(opened.tail_start, opened.footer.index_start)
            if self.geometry is not None and self.geometry.pages.start < start:
                start = max(start, self.geometry.pages.start + self.geometry.pages.length)
            self._tail = (start, opened.tail[start - opened.tail_start :])

    async def _load_index(self) -> None:
        footer = self.known_footer()
        raw = await run_async(read_index(footer), self.read)
        ext = self.memory.ext
        section = None if ext is None else ext.section(SectionKind.INDEXDIR)
        groups: list[Group] = []
        if section is not None:
            directory = await run_async(read_section(section), self.read)
            groups = decode_directory(directory, footer.index_length, footer.file_count)

        def parse() -> ContainerIndex:
            index = ContainerIndex.parse(raw, footer)
            index.check(groups)
            return index

        self._index = parse() if len(raw) <= PARSE_INLINE_MAX else await asyncio.to_thread(parse)
        if self.geometry is None:
            self._tail = (0, b"")
