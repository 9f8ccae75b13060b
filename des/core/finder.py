"""Finds files of a container in an object store: by page or INDEX, by NAMES, and what is said of them."""

from collections.abc import Iterable
from typing import Final

from des.core.container_object import ContainerObject
from des.core.file_view import StoredFile, digest_of, missing, sorted_names
from des.core.index_groups import IndexGroups
from des.core.located import Located
from des.format.ext import read_section
from des.format.fuse_filter import FuseFilter
from des.format.hash_pages import BadPageError, Record
from des.format.index import IndexEntry
from des.format.locate import check_record, check_same_place
from des.format.names import list_names, read_directory
from des.format.plan import read_metadata, run_async
from des.format.section_table import SectionKind


class Finder:
    """Finds files of one container. What costs how much is said at `S3DesReader`."""

    def __init__(self, container: ContainerObject) -> None:
        self._container: Final = container
        self._memory: Final = container.memory

    async def locate(self, name: str) -> Located | None:
        """Return where a file lies, by its page or by INDEX; None when the container does not have it."""
        container = self._container
        await container.open()
        if container.pages is None:
            entry = (await container.index()).find(name)
            return None if entry is None else Located(entry)
        digest = digest_of(name)
        if digest is None:
            return None
        if self._memory.filter_pays(container.known_footer().file_count):
            await self.load_filter()
        if self._memory.denies(digest):
            return None
        asked = container.cost.requests
        found = await self._settle(name, digest, await container.pages.find(digest, container.read))
        if found is None and container.cost.requests > asked:
            self._memory.note_vain()
        return found

    async def demand(self, name: str) -> Located:
        """Return where a file lies.

        Raises:
            FileNotInContainerError: no such name.
        """
        found = await self.locate(name)
        if found is None:
            raise missing(name, self._container.key)
        return found

    async def locate_many(self, names: Iterable[str], *, gap: int, request_size: int) -> dict[str, Located]:
        """Return where files lie, in the order asked, each once.

        Raises:
            FileNotInContainerError: one is not there.
        """
        await self._container.open()
        pages = self._container.pages
        wanted = list(dict.fromkeys(names))
        if pages is None:
            return {name: await self.demand(name) for name in wanted}
        digests = {name: digest_of(name) for name in wanted}
        records = await pages.find_many(
            [digest for digest in digests.values() if digest is not None and not self._memory.denies(digest)],
            self._container.read,
            gap=gap,
            request_size=request_size,
        )
        located: dict[str, Located] = {}
        for name, digest in digests.items():
            found = None if digest is None else await self._settle(name, digest, records.get(digest, []))
            if found is None:
                raise missing(name, self._container.key)
            located[name] = found
        return located

    async def describe(self, found: Located) -> StoredFile:
        """Return all that is known of a file but its bytes."""
        await self._container.open()
        if found.record is None or not found.is_bare:
            plan = read_metadata(found.entry, self._container.layout)
            return StoredFile(found.entry, await run_async(plan, self._container.read))
        entry, metadata = await self._groups().described(found.record.ordinal)
        check_same_place(found.record, _same_name(entry, found.entry.name))
        return StoredFile(entry, metadata)

    async def entry(self, found: Located) -> IndexEntry:
        """Return a file's entry as INDEX has it."""
        if found.record is None or not found.is_bare:
            return found.entry
        return _same_name(await self._groups().entry(found.record.ordinal), found.entry.name)

    async def list_names(self, prefix: str, start_after: str, limit: int | None) -> list[str]:
        """Return a page of names, from NAMES or else from INDEX."""
        section = await self._container.section(SectionKind.NAMES)
        if section is None:
            return sorted_names(await self._container.index(), prefix, start_after, limit)
        names = self._memory.names
        if names is None:
            plan = read_directory(section, self._container.known_footer())
            names = self._memory.names = await run_async(plan, self._container.read)
        listing = list_names(names, prefix=prefix, start_after=start_after, limit=limit)
        return await run_async(listing, self._container.read)

    async def load_filter(self) -> None:
        """Keep FILTER, where the container has one."""
        section = await self._container.section(SectionKind.FILTER)
        if section is not None and self._memory.filter is None:
            data = await run_async(read_section(section), self._container.read)
            self._memory.filter = FuseFilter.decode(data)

    async def _settle(self, name: str, digest: bytes, records: list[Record]) -> Located | None:
        """Return the file that a page's records mean; ask INDEX where they say so."""
        footer = self._container.known_footer()
        for record in records:
            if not record.check_index:
                return Located(check_record(record, name, footer), record, digest, footer.layout)
            entry = await self._groups().entry(record.ordinal)
            if entry.name == name:
                return Located(entry)
        return None

    def _groups(self) -> IndexGroups:
        container = self._container
        assert container.geometry is not None
        assert container.etag is not None
        return IndexGroups(
            footer=container.known_footer(),
            uuid=container.geometry.pages.uuid,
            etag=container.etag,
            cache=container.cache,
            memory=container.memory,
            read=container.read,
            directory=container.directory,
        )


def _same_name(entry: IndexEntry, name: str) -> IndexEntry:
    if entry.name != name:
        raise BadPageError(f"INDEX has {entry.name!r} where its record says {name!r}")
    return entry
