"""Writes one container, front to back, in one pass (docs/format.md, section 9)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self
from uuid import UUID

from des.core.announced import check_blocks, check_whole, gather, verified
from des.core.container_index import EXTERNAL_LENGTH_MAX, ContainerIndex
from des.core.contents import Contents
from des.core.data_section import DataSection
from des.core.ext_builder import write_ext
from des.core.sink import ByteStream, FileSink, Sink, StreamSink
from des.core.waiting_files import WaitingFile
from des.errors import ConflictError
from des.files import BLOCK_SIZE
from des.format.checksums import block_checksums
from des.format.compression import CODEC_RAW, COMPRESSED_RAW_LENGTH_MAX
from des.format.compressor import Compressor
from des.format.errors import InvalidEntryError
from des.format.ext import Ext
from des.format.footer import Footer
from des.format.frame import STORED_LENGTH_MAX
from des.format.header import HEADER
from des.format.index import FLAG_COMPRESSED, FLAG_EXTERNAL, IndexEntry, encode_name
from des.format.layout import Layout
from des.format.metadata import Metadata, encode_size
from des.format.system_metadata import SystemMetadata

_NO_SYSTEM: Final = SystemMetadata()
_NO_METADATA: Final[Mapping[str, Any]] = MappingProxyType({})
_DAY: Final = re.compile(r"[0-9]{8}")


class WriterFailedError(ConflictError):
    """An earlier call failed half-way, or the writer is finished: this container takes nothing more."""

    reason = "INTERNAL"


class DuplicateNameError(InvalidEntryError):
    """The container has a file of this name."""


class FileTooLargeError(InvalidEntryError):
    """The file does not fit a framed container; it belongs outside."""

    reason = "FILE_TOO_LARGE"


class DesWriter:
    """Appends files to a new container and seals it with INDEX and FOOTER.

    Only appends, never seeks. A refusal (a bad name, a doubled one, metadata that cannot be written)
    leaves the writer usable; after an error in the midst of writing every call raises. Leaving a
    `with` block by an exception leaves no container.
    """

    def __init__(
        self,
        target: str | Path | ByteStream,
        *,
        layout: Layout | str = Layout.FRAMED,
        day: str | None = None,
        digest: bool = False,
        replace_existing: bool = False,
        compressor: Compressor | None = None,
        ext: bool = True,
        container_id: UUID | str | None = None,
    ) -> None:
        """Start a container.

        Args:
            target: a path, which appears when `finish` returns, whole and durable; or a stream, which
                stays the caller's to sync and close.
            layout: how files stand in the container.
            day: UTC day, YYYYMMDD, that every name must carry; None to accept any name.
            digest: whether to compute `sha256`, which EXT then carries: it costs more than all else that is
                done to a long file, and every byte has a CRC32C without it.
            replace_existing: whether a file at the path may be replaced.
            compressor: decides which files of a framed container are compressed; None for none of them.
            ext: whether to write EXT; without it `v1` is byte for byte what the origin writes.
            container_id: the id that EXT carries; None to derive it from the files.

        Raises:
            ContainerExistsError: the path is taken.
        """
        self.layout: Final = Layout(layout)
        if day is not None and not _DAY.fullmatch(day):
            raise ValueError(f"day is {day!r}, expected YYYYMMDD")
        self._day_mark: Final = "" if day is None else f"_{day}_"
        self._framed: Final = self.layout is Layout.FRAMED
        if compressor is not None and not self._framed:
            raise ValueError(f"layout {self.layout.value} has no frame to say how a file is compressed")
        self._compressor: Final = compressor
        self._contents: Final = Contents(framed=self._framed, ext=ext)
        self._has_digest: Final = digest
        self._container_id: Final = UUID(container_id) if isinstance(container_id, str) else container_id
        self._ext: Ext | None = None
        self._sealed_index: ContainerIndex | None = None
        self._end_sha256 = ""
        self._failed = False
        self._sink: Final[Sink] = (
            FileSink(Path(target), digest=digest, replace_existing=replace_existing)
            if isinstance(target, str | Path)
            else StreamSink(target, digest=digest)
        )
        try:
            self._sink.write(HEADER if compressor is None else HEADER + compressor.section)
        except BaseException:
            self._sink.discard()
            raise
        self._data: Final = DataSection(self._sink, self._contents, framed=self._framed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None or self._failed:
            self.abort()
        elif self._sealed_index is None:
            self.finish()

    def __len__(self) -> int:
        return len(self._contents.names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.encode(errors="surrogatepass") in self._contents.names

    @property
    def size(self) -> int:
        """Bytes written so far, as they will stand in the container."""
        return self._data.stop if self._sealed_index is None else self._sink.size

    @property
    def sha256(self) -> str:
        """SHA-256 of everything written so far, in hexadecimal.

        Raises:
            ValueError: the writer was not told to compute it.
        """
        self._flush()
        return self._sink.sha256()

    @property
    def end_sha256(self) -> str:
        """SHA-256 of the finished container's EXT and FOOTER, in hexadecimal.

        With `digest` they have the SHA-256 of all before them: this one stands for every byte, and is read
        back from the end alone.

        Raises:
            ValueError: not finished, or without what makes it say so much.
        """
        if self._ext is None or not self._has_digest:
            raise ValueError("the container is not finished, or has no EXT with a digest")
        return self._end_sha256

    @property
    def index(self) -> ContainerIndex:
        """The finished container's INDEX, as a reader would parse it.

        Raises:
            ValueError: not finished.
        """
        if self._sealed_index is None:
            raise ValueError("the container is not finished")
        return self._sealed_index

    @property
    def ext(self) -> Ext | None:
        """The finished container's EXT; None when it has none.

        Raises:
            ValueError: not finished.
        """
        if self._sealed_index is None:
            raise ValueError("the container is not finished")
        return self._ext

    def add_file(
        self,
        name: str,
        data: bytes | bytearray | memoryview | Iterable[bytes],
        *,
        size: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        system: SystemMetadata | None = None,
        crc32c: int | None = None,
        kind: str = "",
    ) -> IndexEntry:
        """Append one file and return where it lies.

        Bytes longer than `BLOCK_SIZE` get block checksums here unless `system` brings them; those of a
        stream must be brought, since a frame says how long the metadata is before the bytes. A v1
        container records checksums only where one was given, and otherwise is what the origin writes.

        Args:
            name: unique in the container.
            data: the bytes, or a stream of them, held in memory only where it may be compressed.
            size: length in bytes; a stream needs it.
            metadata: the user's own keys; never changed here.
            system: what DES keeps.
            crc32c: the file's checksum; verified. A stream into a framed container needs it.
            kind: what chooses its dictionary; empty for its content type.

        Returns:
            The entry. In a v1 container its `meta_offset` counts from the start of META, which is known
            only when the container is finished; `index` has the final one.

        Raises:
            InvalidEntryError: refused; nothing was written.
            SourceMismatchError: the bytes do not fit `size`, `crc32c` or `system`.
            WriterFailedError: an earlier call failed, or the writer is finished.
        """
        encoded = self._admit(name)
        if system is None:
            if (
                type(data) is bytes
                and metadata is None
                and size is None
                and crc32c is None
                and self._compressor is None
            ):
                length = len(data)
                if length <= BLOCK_SIZE:
                    # Nothing is said of it, so nothing is to be checked, merged or chosen.
                    return self._take(name, (encoded, data, encode_size(length), None, 0, CODEC_RAW, length))
            system = _NO_SYSTEM
        elif crc32c is None:
            crc32c = system.crc32c
        elif system.crc32c not in {None, crc32c}:
            raise InvalidEntryError(f"two checksums of {name!r}: {crc32c:08x} and {system.crc32c:08x}")
        user = _NO_METADATA if metadata is None else metadata
        if isinstance(data, bytes):
            return self._add_bytes(name, encoded, data, size, user, system, crc32c, kind)
        if isinstance(data, bytearray | memoryview):
            return self._add_bytes(name, encoded, bytes(data), size, user, system, crc32c, kind)
        if self._compressor is not None and size is not None and size <= COMPRESSED_RAW_LENGTH_MAX:
            gathered = gather(name, data, size)
            return self._add_bytes(name, encoded, gathered, size, user, system, crc32c, kind)
        return self._add_stream(name, encoded, data, size, user, system, crc32c)

    def add_external(
        self,
        name: str,
        *,
        size: int,
        external_key: str,
        metadata: Mapping[str, Any] | None = None,
        system: SystemMetadata | None = None,
    ) -> IndexEntry:
        """Append the entry of a file whose bytes are an object of their own.

        Raises:
            InvalidEntryError: refused; nothing was written.
            WriterFailedError: an earlier call failed, or the writer is finished.
        """
        encoded = self._admit(name)
        if not 0 <= size <= EXTERNAL_LENGTH_MAX or not external_key:
            raise InvalidEntryError(f"external file {name!r} has size {size} and key {external_key!r}")
        system = system or _NO_SYSTEM
        check_blocks(name, system, size)
        document = Metadata(size, metadata or _NO_METADATA, external_key, system).encode()
        return self._take(name, (encoded, b"", document, 0, FLAG_EXTERNAL, CODEC_RAW, size))

    def finish(self) -> Footer:
        """Write META, INDEX, EXT and FOOTER and hand everything over; a path appears here, durable.

        INDEX, FOOTER and the end of EXT are parsed as a reader would before the container appears.

        Raises:
            ContainerExistsError: the path was taken meanwhile.
            WriterFailedError: an earlier call failed, or the writer is finished.
        """
        self._demand_open()
        self._flush()
        footer, meta, index = self._contents.seal(data_start=self._data.start, meta_start=self._data.stop)
        encoded = footer.encode()
        try:
            sealed_index = ContainerIndex.parse(index, Footer.decode(encoded))
            self._sink.write(meta, index)
            parts = self._contents.ext(footer, meta, index, self._sink.checksums, self._container_id)
            if parts is not None:
                self._ext, self._end_sha256 = write_ext(self._sink, parts, footer)
            self._sink.write(encoded)
            self._sink.commit()
        except BaseException:
            self.abort()
            raise
        self._sealed_index = sealed_index
        return footer

    def abort(self) -> None:
        """Drop the container; a path is left as it was. Safe after any failure, and twice."""
        if self._sealed_index is None:
            self._failed = True
            self._data.drop()
            self._sink.discard()

    def _admit(self, name: str) -> bytes:
        """Return the name as it will be stored, or refuse it."""
        if self._failed or self._sealed_index is not None:
            self._demand_open()
        if self._day_mark not in name:
            raise InvalidEntryError(
                f"name {name!r} is not of the day {self._day_mark.strip('_')}", field="name"
            )
        encoded = encode_name(name)
        if encoded in self._contents.names:
            raise DuplicateNameError(f"the container has a file {name!r} already", name=name)
        return encoded

    def _add_bytes(
        self,
        name: str,
        encoded: bytes,
        data: bytes,
        size: int | None,
        user: Mapping[str, Any],
        system: SystemMetadata,
        crc32c: int | None,
        kind: str,
    ) -> IndexEntry:
        length = len(data)
        found = check_whole(name, data, size=size, system=system, crc32c=crc32c)
        if system.block_size is None and length > BLOCK_SIZE and (self._framed or crc32c is not None):
            system = replace(system, block_size=BLOCK_SIZE, block_crc32c=block_checksums(data))
        document = self._document(length, user, system, crc32c)
        if self._framed and length > STORED_LENGTH_MAX:
            raise _too_large(length)
        codec, stored = CODEC_RAW, data
        if self._compressor is not None:
            codec, stored = self._compressor.compress(data, kind or system.content_type)
        flags = 0 if codec == CODEC_RAW else FLAG_COMPRESSED
        return self._take(name, (encoded, stored, document, found, flags, codec, length))

    def _take(self, name: str, file: WaitingFile) -> IndexEntry:
        """Let a file wait with others to be laid out, and return its entry."""
        encoded, stored, document, _, flags, _, length = file
        self._contents.take_name(encoded)
        try:
            data_offset, meta_offset = self._data.take(file)
        except BaseException:
            self.abort()
            raise
        stored_length = len(stored)
        if flags & FLAG_EXTERNAL:
            data_offset, stored_length = 0, length
        # As `IndexEntry(…)`, without the call in between that a named tuple's constructor is.
        return tuple.__new__(
            IndexEntry, (name, data_offset, stored_length, meta_offset, len(document), flags)
        )

    def _flush(self) -> None:
        try:
            self._data.flush()
        except BaseException:
            self.abort()
            raise

    def _add_stream(
        self,
        name: str,
        encoded: bytes,
        chunks: Iterable[bytes],
        size: int | None,
        user: Mapping[str, Any],
        system: SystemMetadata,
        crc32c: int | None,
    ) -> IndexEntry:
        if size is None or size < 0:
            raise InvalidEntryError(f"stream of {name!r} comes with size {size}", field="size")
        if self._framed and crc32c is None:
            raise InvalidEntryError(f"stream of {name!r} comes without its checksum", field="crc32c")
        check_blocks(name, system, size)
        document = self._document(size, user, system, crc32c)
        if self._framed and size > STORED_LENGTH_MAX:
            raise _too_large(size)
        self._contents.take_name(encoded)
        stream = verified(name, chunks, size=size, system=system, crc32c=crc32c)
        try:
            data_offset, meta_offset = self._data.write_stream(encoded, document, size, crc32c or 0, stream)
        except BaseException:
            # Half a file stands in DATA, so nothing behind it could be trusted.
            self.abort()
            raise
        return IndexEntry(name, data_offset, size, meta_offset, len(document), 0)

    def _document(
        self, size: int, user: Mapping[str, Any], system: SystemMetadata, crc32c: int | None
    ) -> bytes:
        """Return the metadata; the checksum of the whole stands in the frame where there is one."""
        recorded = None if self._framed else crc32c
        if system is _NO_SYSTEM and recorded is None and not user:
            return encode_size(size)
        if system.crc32c != recorded:
            system = replace(system, crc32c=recorded)
        return Metadata(size, user, None, system).encode()

    def _demand_open(self) -> None:
        if self._failed:
            raise WriterFailedError("an earlier call failed: this container takes nothing more")
        if self._sealed_index is not None:
            raise WriterFailedError("the container is finished")


def _too_large(length: int) -> FileTooLargeError:
    return FileTooLargeError(
        f"file has {length} bytes, at most {STORED_LENGTH_MAX} fit a frame", field="size"
    )
