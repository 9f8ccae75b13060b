"""Reads a container in a local file, each byte verified on that read."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from des.core.byte_source import ByteSource
from des.core.container_index import ContainerIndex
from des.core.file_view import (
    ExternalFileOutOfReachError,
    StoredFile,
    clip_range,
    missing,
)
from des.core.local_container import LocalContainer
from des.core.local_file import LocalFile
from des.core.located import Located
from des.core.plain_end import open_plain
from des.core.plain_read import ReadAt, find_place, find_places, read_place, read_places
from des.files import BLOCK_SIZE
from des.format.byte_range import ByteRange
from des.format.errors import CorruptContainerError
from des.format.ext import Ext
from des.format.extent import PIECE_SIZE_MAX, bound_extent, extent_of, learn_blocks, pieces, read_piece
from des.format.footer import Footer
from des.format.header import HEADER_SIZE, check_header
from des.format.index import IndexEntry
from des.format.index_directory import GROUP_SIZE
from des.format.layout import Layout
from des.format.locate import (
    read_bare,
    read_group,
    read_group_metadata,
    read_indexed,
)
from des.format.metadata import Metadata, decode_metadata
from des.format.name_key import name_digest
from des.format.plan import read_file, read_metadata, run
from des.format.section_table import SectionKind

TAIL_SIZE: Final = 1 << 10
"""Bytes read first: FOOTER, trailer and section table. A second read costs a local file next to nothing."""
WHOLE_FILE_MAX: Final = BLOCK_SIZE
"""Bytes of a file that is read whole for any range of it: longer ones have block checksums."""


class DesReader:
    """One container in a local file. Safe for threads: every read is a pread.

    Where the container has EXT, opening it and finding a file cost the same for any number of files.
    """

    def __init__(
        self, source: str | Path | ByteSource, *, external: Callable[[str], bytes] | None = None
    ) -> None:
        """Open a container; without EXT, check its index, whole.

        Args:
            source: the container's path, or its bytes, which stay the caller's to close.
            external: returns the bytes of an external file by its key; without it such a file's
                metadata can be read, and its bytes cannot.

        Raises:
            CorruptContainerError: the file is no container, or a damaged one.
            FileNotFoundError: there is no such file.
        """
        self._owns = isinstance(source, str | Path)
        self._source: Final[ByteSource] = LocalFile(source) if isinstance(source, str | Path) else source
        self._read: Final = self._source.read
        self._read_at: Final[ReadAt] = (
            self._source.read_at if isinstance(self._source, LocalFile) else self._read_range
        )
        self._external = external
        try:
            size = self._source.size
            tail = self._read_at(min(TAIL_SIZE, size), max(0, size - TAIL_SIZE)) if size else b""
            self._container: Final = LocalContainer(self._source, tail)
            self._dictionaries: Final = self._container.dictionaries
            self._plain: Final = open_plain(tail, size)
            if self._plain is None:
                self._container.end()
            check_header(self._read_at(HEADER_SIZE, 0))
            if self._plain is None and self._container.pages is None:
                self._container.index()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.footer.file_count if self._plain is None else self._plain.file_count

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._container.locate(name) is not None

    def __iter__(self) -> Iterator[StoredFile]:
        """Yield every file's entry and metadata, in the order they were written."""
        directory = self._container.section(SectionKind.INDEXDIR)
        if directory is None:
            for entry in self.index:
                yield StoredFile(entry, self.read_metadata(entry))
            return
        for ordinal in range(0, len(self), GROUP_SIZE):
            group, entries = run(read_group(directory, self.footer, ordinal), self._read)
            if self.footer.layout is Layout.FRAMED:
                for entry in entries:
                    yield StoredFile(entry, self.read_metadata(entry))
                continue
            documents = run(read_group_metadata(group, entries), self._read)
            for entry, document in zip(entries, documents, strict=True):
                yield StoredFile(entry, decode_metadata(document, entry))

    @property
    def footer(self) -> Footer:
        """Where the sections lie."""
        return self._container.end().footer

    @property
    def ext(self) -> Ext | None:
        """What the container's end says about EXT; None where it has none."""
        return self._container.end().ext

    @property
    def index(self) -> ContainerIndex:
        """INDEX, whole and proven; a container with EXT is read without ever asking for this."""
        return self._container.index()

    def get_index(self) -> ContainerIndex:
        """Return INDEX, as `index`."""
        return self.index

    def read_all(self) -> Iterator[tuple[StoredFile, bytes]]:
        """Yield every file with its bytes, verified, in the order they were written.

        Raises:
            CorruptContainerError: what comes next is not what was written.
            ExternalFileOutOfReachError: the bytes of what comes next lie outside.
            UnsupportedContainerError: what comes next is encrypted or deleted.
        """
        for file in self:
            data, metadata = self.read_entry(file.entry)
            yield StoredFile(file.entry, metadata), data

    def close(self) -> None:
        """Give the file back. Twice is once; reads under way must have ended."""
        if self._owns:
            self._source.close()

    def list_files(self, prefix: str = "", start_after: str = "", limit: int | None = None) -> list[str]:
        """Return names that start with `prefix` and sort after `start_after`, sorted, at most `limit`."""
        return self._container.list_names(prefix, start_after, limit)

    def find(self, name: str) -> IndexEntry | None:
        """Return the entry of `name`; None when the container does not have it."""
        found = self._container.locate(name)
        if found is None or found.record is None:
            return None if found is None else found.entry
        return run(
            read_indexed(self._container.directory(), self.footer, found.record.ordinal, name), self._read
        )

    def stat(self, name: str) -> StoredFile:
        """Return everything known of a file but its bytes.

        Raises:
            FileNotInContainerError: no such name.
        """
        return self._container.describe(self._container.demand(name))

    def get_meta(self, name: str) -> Metadata:
        """Return a file's metadata.

        Raises:
            FileNotInContainerError: no such name.
        """
        return self.stat(name).metadata

    def get_file(self, name: str) -> bytes:
        """Return a file, whole and verified.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            ExternalFileOutOfReachError: the bytes lie outside, and nobody said how to read them.
            FileNotInContainerError: no such name.
            UnsupportedContainerError: the file is encrypted or deleted.
        """
        plain = self._plain
        if plain is not None:
            try:
                encoded = name.encode()
            except UnicodeEncodeError:
                raise missing(name, self._source.name) from None
            digest = name_digest(encoded)
            place = find_place(encoded, digest, plain, self._read_at)
            if place is not None:
                data = read_place(encoded, digest, place, self._dictionaries, self._read_at)
                if data is not None:
                    return data
        return self._read_located(self._container.demand(name))

    def get_files_batch(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return many files by name, in the order asked, read in the order they lie.

        Raises:
            CorruptContainerError: one of the files is damaged.
            FileNotInContainerError: no such name; no file was read.
            UnsupportedContainerError: a file is encrypted or deleted.
        """
        wanted = list(dict.fromkeys(names))
        files = dict.fromkeys(wanted, b"")
        plain = self._plain
        if plain is None:
            return self._read_others(files, {name: self._container.demand(name) for name in wanted})
        # A name that is no Unicode is encoded to what no container has.
        encoded = [name.encode(errors="surrogatepass") for name in wanted]
        digests = list(map(name_digest, encoded))
        places = find_places(encoded, digests, plain, self._read_at)
        others = {
            name: self._container.demand(name)
            for name, place in zip(wanted, places, strict=True)
            if not place
        }
        found = read_places(encoded, digests, places, self._dictionaries, self._read_at)
        for name, data in zip(wanted, found, strict=True):
            if data is not None:
                files[name] = data
            elif name not in others:
                others[name] = self._container.demand(name)
        return self._read_others(files, others)

    def _read_others(self, files: dict[str, bytes], others: Mapping[str, Located]) -> dict[str, bytes]:
        """Add files to those of a batch one by one, in the order they lie."""
        for name, found in sorted(others.items(), key=lambda item: item[1].entry.data_offset):
            files[name] = self._read_located(found)
        return files

    def get_range(self, name: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Return up to `limit` bytes of a file from `offset`, verified; fewer only at its end.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            FileNotInContainerError: no such name.
            RangeOutsideFileError: `offset` lies behind the end.
        """
        found = self._container.demand(name)
        if found.entry.is_compressed:
            data = self._read_located(found)
            start, stop = clip_range(name, len(data), offset, limit)
            return data[start:stop]
        start, stop = clip_range(name, found.entry.data_length, offset, limit)
        if start == stop:
            return b""
        if found.entry.is_external or found.entry.data_length <= WHOLE_FILE_MAX:
            return self._read_located(found)[start:stop]
        return b"".join(self._read_long(found, start, stop))

    def read_entry(self, entry: IndexEntry) -> tuple[bytes, Metadata]:
        """Return a file, whole and verified, and its metadata. Raises as `get_file`."""
        entry.check_readable(self.footer.layout)
        if self._proves_v1:
            found = self._container.demand(entry.name)
            return self._read_located(found), self._container.describe(found).metadata
        if not entry.is_external:
            return run(read_file(entry, self.footer.layout, self._dictionaries()), self._read)
        metadata = self.read_metadata(entry)
        return self._read_external(entry, metadata), metadata

    def read_pieces(self, entry: IndexEntry) -> Iterator[bytes]:
        """Yield a file in order, at most 4 MiB at a time, each verified before. Raises as `get_file`."""
        if entry.is_external or entry.data_length <= PIECE_SIZE_MAX:
            yield self.read_entry(entry)[0]
        else:
            found = self._container.demand(entry.name) if self._proves_v1 else Located(entry)
            yield from self._read_long(found, 0, entry.data_length)

    def _read_long(self, found: Located, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes `[start, stop)` of a file that is not held whole."""
        found.entry.check_readable(self.footer.layout)
        described = self._container.describe(found)
        extent = extent_of(described.entry, described.metadata)
        if found.record is not None and found.record.is_proven:
            extent = bound_extent(extent, found.digest, found.record.proof)
        if extent.needs_blocks:
            extent = run(learn_blocks(extent), self._read)
        for piece in pieces(extent, start, stop):
            yield run(read_piece(extent, piece), self._read)

    def _read_external(self, entry: IndexEntry, metadata: Metadata) -> bytes:
        key = metadata.external_key or ""
        if self._external is None:
            raise ExternalFileOutOfReachError(
                f"{entry.name!r} lies outside {self._source.name!r}, in object {key!r}",
                name=entry.name,
                external_key=key,
            )
        return self._verified(self._external(key), entry, metadata)

    def read_metadata(self, entry: IndexEntry) -> Metadata:
        """Return a file's metadata; also of a file that cannot itself be read.

        Raises:
            CorruptContainerError: what is stored there is not its metadata.
        """
        if self._proves_v1:
            return self._container.describe(self._container.demand(entry.name)).metadata
        return run(read_metadata(entry, self.footer.layout), self._read)

    def _verified(self, data: bytes, entry: IndexEntry, metadata: Metadata) -> bytes:
        if len(data) != entry.data_length:
            raise CorruptContainerError(
                f"external file {entry.name!r} has {len(data)} bytes, expected {entry.data_length}"
            )
        extent = extent_of(entry, metadata)
        if extent.needs_blocks:
            extent = run(learn_blocks(extent), lambda wanted: data[wanted.start : wanted.stop])
        for piece in pieces(extent, 0, extent.size):
            run(read_piece(extent, piece), lambda wanted: data[wanted.start : wanted.stop])
        return data

    def _read_range(self, size: int, offset: int) -> bytes:
        return self._read(ByteRange(offset, offset + size))

    @property
    def _proves_v1(self) -> bool:
        """Whether EXT proves the files of a v1 container, which prove nothing themselves."""
        return self._plain is None and self._container.proves_v1

    def _read_located(self, found: Located) -> bytes:
        entry = found.entry
        entry.check_readable(self.footer.layout)
        if entry.is_external:
            described = self._container.describe(found)
            return self._read_external(described.entry, described.metadata)
        if found.record is not None:
            return run(read_bare(found.record, entry.name, found.digest), self._read)
        return run(read_file(entry, self.footer.layout, self._dictionaries()), self._read)[0]
