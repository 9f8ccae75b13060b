"""Reads a container in a local file, each byte verified on that read."""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from des.core.container_index import ContainerIndex
from des.core.file_view import (
    ExternalFileOutOfReachError,
    StoredFile,
    clip_range,
    missing,
)
from des.files import BLOCK_SIZE
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.errors import CorruptContainerError
from des.format.extent import PIECE_SIZE_MAX, extent_of, learn_blocks, pieces, read_piece
from des.format.footer import Footer
from des.format.header import HEADER_SIZE, check_header
from des.format.index import IndexEntry
from des.format.metadata import Metadata
from des.format.plan import open_container, read_file, read_metadata, run

WHOLE_FILE_MAX: Final = BLOCK_SIZE
"""Bytes of a file that is read whole for any range of it: longer ones have block checksums."""


class DesReader:
    """One container in a local file. Safe for threads: every read is a pread."""

    def __init__(self, path: str | Path, *, external: Callable[[str], bytes] | None = None) -> None:
        """Open a container and check its index, whole.

        Args:
            path: the container.
            external: returns the bytes of an external file by its key; without it such a file's
                metadata can be read, and its bytes cannot.

        Raises:
            CorruptContainerError: the file is no container, or a damaged one.
            FileNotFoundError: there is no such file.
        """
        self.path: Final = Path(path)
        self._external = external
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._size = os.fstat(self._descriptor).st_size
            footer, raw = run(open_container(self._size), self._read)
            check_header(self._read(ByteRange(0, HEADER_SIZE)))
            self.footer: Final[Footer] = footer
            self.index: Final = ContainerIndex.parse(raw, footer)
            self._dictionaries: Final = Dictionaries(footer.data_start)
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
        return len(self.index)

    def __contains__(self, name: object) -> bool:
        return name in self.index

    def __iter__(self) -> Iterator[StoredFile]:
        """Yield every file's entry and metadata, in the order they were written."""
        for entry in self.index:
            yield StoredFile(entry, self.read_metadata(entry))

    def close(self) -> None:
        """Give the file back. Twice is once; reads under way must have ended."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def list_files(self, prefix: str = "", start_after: str = "", limit: int | None = None) -> list[str]:
        """Return names that start with `prefix` and sort after `start_after`, sorted, at most `limit`."""
        names = sorted(
            entry.name for entry in self.index if entry.name.startswith(prefix) and entry.name > start_after
        )
        return list(islice(names, limit))

    def stat(self, name: str) -> StoredFile:
        """Return everything known of a file but its bytes.

        Raises:
            FileNotInContainerError: no such name.
        """
        entry = self._entry(name)
        return StoredFile(entry, self.read_metadata(entry))

    def get_meta(self, name: str) -> Metadata:
        """Return a file's metadata.

        Raises:
            FileNotInContainerError: no such name.
        """
        return self.read_metadata(self._entry(name))

    def get_file(self, name: str) -> bytes:
        """Return a file, whole and verified.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            ExternalFileOutOfReachError: the bytes lie outside, and nobody said how to read them.
            FileNotInContainerError: no such name.
            UnsupportedContainerError: the file is encrypted or deleted.
        """
        return self.read_entry(self._entry(name))[0]

    def get_range(self, name: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Return up to `limit` bytes of a file from `offset`, verified; fewer only at its end.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            FileNotInContainerError: no such name.
            RangeOutsideFileError: `offset` lies behind the end.
        """
        entry = self._entry(name)
        if entry.is_compressed:
            data, _ = self.read_entry(entry)
            start, stop = clip_range(name, len(data), offset, limit)
            return data[start:stop]
        start, stop = clip_range(name, entry.data_length, offset, limit)
        if start == stop:
            return b""
        if entry.is_external or entry.data_length <= WHOLE_FILE_MAX:
            return self.read_entry(entry)[0][start:stop]
        entry.check_readable(self.footer.layout)
        extent = extent_of(entry, self.read_metadata(entry))
        if extent.needs_blocks:
            extent = run(learn_blocks(extent), self._read)
        return b"".join(run(read_piece(extent, piece), self._read) for piece in pieces(extent, start, stop))

    def read_entry(self, entry: IndexEntry) -> tuple[bytes, Metadata]:
        """Return a file, whole and verified, and its metadata. Raises as `get_file`."""
        if not entry.is_external:
            return run(read_file(entry, self.footer.layout, self._dictionaries), self._read)
        entry.check_readable(self.footer.layout)
        metadata = self.read_metadata(entry)
        key = metadata.external_key or ""
        if self._external is None:
            raise ExternalFileOutOfReachError(
                f"{entry.name!r} lies outside {str(self.path)!r}, in object {key!r}",
                name=entry.name,
                external_key=key,
            )
        return self._verified(self._external(key), entry, metadata), metadata

    def read_pieces(self, entry: IndexEntry) -> Iterator[bytes]:
        """Yield a file in order, at most 4 MiB at a time, each verified before. Raises as `get_file`."""
        if entry.is_external or entry.data_length <= PIECE_SIZE_MAX:
            yield self.read_entry(entry)[0]
            return
        entry.check_readable(self.footer.layout)
        extent = extent_of(entry, self.read_metadata(entry))
        if extent.needs_blocks:
            extent = run(learn_blocks(extent), self._read)
        for piece in pieces(extent, 0, extent.size):
            yield run(read_piece(extent, piece), self._read)

    def read_metadata(self, entry: IndexEntry) -> Metadata:
        """Return a file's metadata; also of a file that cannot itself be read.

        Raises:
            CorruptContainerError: what is stored there is not its metadata.
        """
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

    def _entry(self, name: str) -> IndexEntry:
        entry = self.index.find(name)
        if entry is None:
            raise missing(name, str(self.path))
        return entry

    def _read(self, wanted: ByteRange) -> bytes:
        parts: list[bytes] = []
        start = wanted.start
        while start < wanted.stop:
            # Linux moves at most 2 GiB at a time.
            part = os.pread(self._descriptor, wanted.stop - start, start)
            if not part:
                raise CorruptContainerError(
                    f"{str(self.path)!r} ends at {start}, expected at least {wanted.stop} bytes"
                )
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
