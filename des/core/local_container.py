"""What a local container says of itself: its end, its sections, where its files lie. Read when asked for."""

from typing import Final

from des.core.byte_source import ByteSource
from des.core.container_index import ContainerIndex
from des.core.file_view import StoredFile, digest_of, missing, sorted_names
from des.core.located import Located
from des.format.dictionaries import Dictionaries
from des.format.ext import ExtGeometry, OpenedContainer, open_end, read_section
from des.format.footer import Footer
from des.format.hash_pages import PAGE_SIZE, PagesGeometry, Record
from des.format.index_directory import decode_directory
from des.format.layout import Layout
from des.format.locate import check_record, check_same_place, look_up, read_described, read_entry
from des.format.names import NamesDirectory, list_names, read_directory
from des.format.plan import read_index, read_metadata, run
from des.format.section_table import BadSectionError, Section, SectionKind


class LocalContainer:
    """The long way to a file, by objects for each part; `plain_end` and `plain_read` are the short one.

    Every call may read, and raises `CorruptContainerError` where what it reads is damaged.
    """

    def __init__(self, source: ByteSource, tail: bytes) -> None:
        """`tail` are the last bytes of `source`, as many as were read already."""
        self._source: Final = source
        self._read: Final = source.read
        self._tail: Final = tail
        self._opened: OpenedContainer | None = None
        self._known_dictionaries: Dictionaries | None = None
        self._index: ContainerIndex | None = None
        self._names: NamesDirectory | None = None
        self.pages: PagesGeometry | None = None
        """Where names are found; known once the end was looked at, and None where INDEX is asked."""

    def end(self) -> OpenedContainer:
        """Return what the end of the container says, taken apart; a short read does without."""
        opened = self._opened
        if opened is None:
            opened = run(open_end(self._source.size, tail=self._tail), self._read)
            geometry = ExtGeometry.of(opened.ext, opened.footer)
            self.pages = None if geometry is None else geometry.pages
            self._opened = opened
        return opened

    @property
    def footer(self) -> Footer:
        """Where the sections lie."""
        return self.end().footer

    @property
    def proves_v1(self) -> bool:
        """Whether EXT proves the files of a v1 container, which prove nothing themselves."""
        return self.pages is not None and self.footer.layout is Layout.V1

    def dictionaries(self) -> Dictionaries:
        """Return what stands before the files, read when a file needs one."""
        if self._known_dictionaries is None:
            self._known_dictionaries = Dictionaries(self.end().footer.data_start)
        return self._known_dictionaries

    def demand(self, name: str) -> Located:
        """Return where a file lies.

        Raises:
            FileNotInContainerError: no such name.
        """
        found = self.locate(name)
        if found is None:
            raise missing(name, self._source.name)
        return found

    def locate(self, name: str) -> Located | None:
        """Return where a file lies, by its page or by INDEX; None where there is no such name."""
        self.end()
        if self.pages is None:
            entry = self.index().find(name)
            return None if entry is None else Located(entry)
        digest = digest_of(name)
        if digest is None:
            return None
        for record in self._look_up(self.pages, digest):
            if not record.check_index:
                entry = check_record(record, name, self.footer)
                return Located(entry, record if self.proves_v1 else None, digest, self.footer.layout)
            entry = run(read_entry(self.directory(), self.footer, record.ordinal), self._read)
            if entry.name == name:
                return Located(entry)
        return None

    def _look_up(self, pages: PagesGeometry, digest: bytes) -> list[Record]:
        plan = look_up(pages, digest)
        try:
            page = next(plan)
            # One read brings the next page too, which is asked for where this one is full.
            span = pages.read_range(page)
            data = self._read(span)
            while True:
                start = (page * PAGE_SIZE + pages.start) - span.start
                found = data[start : start + PAGE_SIZE]
                pages.check_page(page, found)
                page = plan.send(found)
        except StopIteration as done:
            records: list[Record] = done.value
            return records

    def describe(self, found: Located) -> StoredFile:
        """Return everything known of a file but its bytes."""
        if found.record is None:
            metadata = run(read_metadata(found.entry, self.footer.layout), self._read)
            return StoredFile(found.entry, metadata)
        plan = read_described(self.directory(), self.footer, found.record.ordinal, found.entry.name)
        entry, metadata = run(plan, self._read)
        check_same_place(found.record, entry)
        return StoredFile(entry, metadata)

    def section(self, kind: SectionKind) -> Section | None:
        """Return where a section of EXT lies; None where there is none."""
        ext = self.end().ext
        return None if ext is None else ext.section(kind)

    def directory(self) -> Section:
        """Return INDEXDIR, which a record refers to."""
        section = self.section(SectionKind.INDEXDIR)
        if section is None:
            raise BadSectionError(f"{self._source.name!r} has HASHPAGES that refer to INDEXDIR, and has none")
        return section

    def list_names(self, prefix: str, start_after: str, limit: int | None) -> list[str]:
        """Return names that start with `prefix` and sort after `start_after`, sorted, at most `limit`."""
        section = self.section(SectionKind.NAMES)
        if section is None:
            return sorted_names(self.index(), prefix, start_after, limit)
        if self._names is None:
            self._names = run(read_directory(section, self.footer), self._read)
        plan = list_names(self._names, prefix=prefix, start_after=start_after, limit=limit)
        return run(plan, self._read)

    def index(self) -> ContainerIndex:
        """Return INDEX, whole and proven; read at the first call."""
        if self._index is not None:
            return self._index
        index = ContainerIndex.parse(run(read_index(self.footer), self._read), self.footer)
        section = self.section(SectionKind.INDEXDIR)
        if section is not None:
            directory = run(read_section(section), self._read)
            index.check(decode_directory(directory, self.footer.index_length, self.footer.file_count))
        self._index = index
        return index
