"""Entries and metadata by place in INDEX, in groups of 64 that are proven and kept together."""

from collections.abc import Callable, Coroutine
from itertools import accumulate
from typing import Any, Final

import google_crc32c

from des.core.container_memory import ContainerMemory
from des.core.index_cache import IndexCache, PageKey, PageKind, Pages
from des.core.paged_index import Read
from des.format.errors import CorruptContainerError
from des.format.ext import read_section
from des.format.footer import Footer
from des.format.index import IndexEntry
from des.format.index_directory import (
    DIRECTORY_ENTRY_SIZE,
    GROUP_SIZE,
    Group,
    decode_group,
    group_range,
)
from des.format.locate import check_group, read_group, read_group_metadata
from des.format.metadata import Metadata, decode_metadata
from des.format.plan import run_async
from des.format.section_table import Section

DIRECTORY_WHOLE_MAX: Final = 1 << 20
"""Bytes of INDEXDIR that are read once and kept: that of 4 million files. Of a longer one 32 at a time."""


class IndexGroups:
    """Reads groups of one container.

    Where the cache has a group it costs nothing, else one request each for its entries and its metadata;
    INDEXDIR one more, once.
    """

    def __init__(
        self,
        *,
        footer: Footer,
        uuid: bytes,
        etag: str,
        cache: IndexCache,
        memory: ContainerMemory,
        read: Read,
        directory: Callable[[], Coroutine[Any, Any, Section]],
    ) -> None:
        self._footer = footer
        self._uuid = uuid
        self._etag = etag
        self._cache = cache
        self._memory = memory
        self._read = read
        self._directory = directory

    async def entry(self, ordinal: int) -> IndexEntry:
        """Return the entry of a place in INDEX.

        Raises:
            CorruptContainerError: INDEXDIR or INDEX is damaged.
        """
        return (await self._entries(ordinal))[1][ordinal % GROUP_SIZE]

    async def described(self, ordinal: int) -> tuple[IndexEntry, Metadata]:
        """Return the entry and metadata of a place in INDEX of a v1 container.

        Raises:
            CorruptContainerError: INDEXDIR, INDEX or META is damaged.
        """
        group, entries = await self._entries(ordinal)
        entry = entries[ordinal % GROUP_SIZE]

        async def load() -> Pages:
            parts = await run_async(read_group_metadata(group, entries), self._read)
            return {key: b"".join(parts)}

        def is_valid(_key: PageKey, data: bytes) -> bool:
            return bool(google_crc32c.value(data) == group.meta_crc32c)

        key = self._key(PageKind.META, ordinal)
        data = await self._cache.fetch(key, load, is_valid)
        places = [0, *accumulate(one.meta_length for one in entries)]
        at = ordinal % GROUP_SIZE
        return entry, decode_metadata(data[places[at] : places[at + 1]], entry)

    async def _entries(self, ordinal: int) -> tuple[Group, list[IndexEntry]]:
        group = await self._group(ordinal)
        if group is None:
            return await run_async(read_group(await self._directory(), self._footer, ordinal), self._read)
        start = self._footer.index_start

        async def load() -> Pages:
            data = await self._read(group.range(start))
            check_group(group, data, self._footer, ordinal // GROUP_SIZE)
            return {key: data}

        def is_valid(_key: PageKey, data: bytes) -> bool:
            return group.holds(data)

        key = self._key(PageKind.INDEX, ordinal)
        data = await self._cache.fetch(key, load, is_valid)
        return group, check_group(group, data, self._footer, ordinal // GROUP_SIZE)

    async def _group(self, ordinal: int) -> Group | None:
        """Return the group of an ordinal; None where INDEXDIR is too long to be kept."""
        if self._memory.directory is None:
            section = await self._directory()
            if section.length > DIRECTORY_WHOLE_MAX:
                return None
            self._memory.directory = await run_async(read_section(section), self._read)
        start, stop = group_range(ordinal, self._footer.file_count)
        data = self._memory.directory[start:stop]
        if len(data) < DIRECTORY_ENTRY_SIZE or len(data) != stop - start:
            raise CorruptContainerError(
                f"INDEXDIR has {len(self._memory.directory)} bytes for {self._footer.file_count} files"
            )
        return decode_group(data, self._footer.index_length)

    def _key(self, kind: PageKind, ordinal: int) -> PageKey:
        return PageKey(self._uuid, self._etag, ordinal // GROUP_SIZE, kind)
