"""From log records to the bytes of a container: the same records give the same bytes (I10)."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from des.config import Settings
from des.core import DesWriter
from des.core.container_index import ContainerIndex
from des.db.catalog import ContainerRow, ContainerState, ShardRun
from des.errors import ExhaustedError
from des.files import BLOCK_SIZE
from des.format.compressor import Compressor, Samples
from des.format.ext import Ext, ExtGeometry
from des.format.footer import Footer
from des.format.layout import Layout
from des.format.system_metadata import SystemMetadata
from des.ingest.facts import FileFacts
from des.ingest.log_reader import LogReader
from des.ingest.values import OpenFile, Sealing
from des.naming import created_ms, created_ms_of, parse_name
from des.packer.container_geometry import geometry_of
from des.packer.log_reads import LoadedFiles, load_files
from des.packer.staged_sink import StagedSink
from des.storage.disk import Disk, DiskFile

STAGING: Final = "staging"
"""Folder of containers being built; what a crash leaves in it is removed at the next start."""
BATCH_BYTES: Final = 4 << 20
"""Record bytes read ahead of the writer."""
BATCH_FILES: Final = 256


class StagingError(ExhaustedError):
    """The folder in which containers are built takes no more bytes."""

    reason = "DISK_FULL"


class ContainerBuilder:
    """Builds containers in the staging folder."""

    def __init__(self, *, settings: Settings, disk: Disk, log: LogReader, node: str) -> None:
        self._settings = settings
        self._disk = disk
        self._log = log
        self._node = node

    def clear_staging(self) -> None:
        """Remove what an earlier process was building; the log still has all of it."""
        self._disk.make_directory(STAGING)
        for name in self._disk.list(STAGING):
            self._disk.remove(f"{STAGING}/{name}")

    @asynccontextmanager
    async def build(self, sealing: Sealing, files: Sequence[OpenFile]) -> AsyncIterator["BuiltContainer"]:
        """Write the container of `files` to a staging file; it is gone when the block ends.

        Raises:
            CorruptError: a record does not match its checksum; nothing was built.
            StagingError: the staging file could not be written.
        """
        path = f"{STAGING}/{sealing.container_id}.des"
        try:
            self._disk.remove(path)
            staged = self._disk.create(path)
        except OSError as error:
            raise _staging_error(error) from error
        try:
            try:
                built = await self._write(sealing, files, staged)
            except OSError as error:
                raise _staging_error(error) from error
            yield built
        finally:
            staged.close()
            self._disk.remove(path)

    async def _write(self, sealing: Sealing, files: Sequence[OpenFile], staged: DiskFile) -> "BuiltContainer":
        compressor = await self._compressor(sealing, files)
        sink = StagedSink(staged, aside=self._log.reads_aside)
        try:
            writer = DesWriter(
                sink,
                layout=sealing.layout,
                digest=True,
                compressor=compressor,
                container_id=sealing.container_id,
            )
            await self._add_all(writer, files)
            footer = await asyncio.to_thread(writer.finish)
        finally:
            await asyncio.to_thread(sink.close)
        run = ShardRun(sealing.first_shard, sealing.span, sealing.bits)
        first_ms, last_ms = _times(files, self._settings.wrap_bits)
        row = ContainerRow(
            container_id=sealing.container_id,
            day=str(sealing.day),
            run=run,
            key=container_key(self._settings, sealing),
            state=ContainerState.UPLOADING,
            epoch=sealing.epoch,
            layout=sealing.layout,
            sha256=writer.sha256,
            geometry=geometry_of(footer, ExtGeometry.of(writer.ext, footer), size=writer.size),
            name_ms_first=first_ms,
            name_ms_last=last_ms,
            data_bytes=sum(file.size for file in files),
            node=self._node,
            name_first=min(file.name for file in files),
            name_last=max(file.name for file in files),
        )
        return BuiltContainer(row, staged, files, footer, writer.index, writer.ext)

    async def _add_all(self, writer: DesWriter, files: Sequence[OpenFile]) -> None:
        """Hand the writer every file, the next batch read from the log while it takes one."""
        batches = _batches(files)
        batch = next(batches, [])
        loaded = await load_files(self._log, batch)
        while batch:
            following = next(batches, [])
            if not self._log.reads_aside:
                await asyncio.to_thread(_add_batch, writer, batch, loaded)
                batch, loaded = following, await load_files(self._log, following)
                continue
            reading = asyncio.ensure_future(load_files(self._log, following))
            try:
                await asyncio.to_thread(_add_batch, writer, batch, loaded)
                batch, loaded = following, await reading
            except BaseException:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                raise

    async def _compressor(self, sealing: Sealing, files: Sequence[OpenFile]) -> Compressor | None:
        """Train on a sample of what the container will hold: a first, short pass over the records."""
        if sealing.layout != Layout.FRAMED or self._settings.compression == "off":
            return None
        samples = Samples.choose(
            (FileFacts.decode(file.facts).content_type, file.size if _is_in_log(file) else -1)
            for file in files
        )
        loaded: dict[int, bytes] = {}
        for place in samples.places:
            parts = [
                data if (data := self._log.read_cached(extent)) is not None else await self._log.read(extent)
                for extent in files[place].extents
            ]
            loaded[place] = b"".join(parts)
        return await asyncio.to_thread(Compressor.train, samples, loaded)


@dataclass(frozen=True, slots=True)
class BuiltContainer:
    """A container in the staging folder, and what must be true of it."""

    row: ContainerRow
    body: DiskFile
    files: Sequence[OpenFile]
    footer: Footer
    index: ContainerIndex
    """INDEX as the writer read it back."""
    ext: Ext | None


def container_key(settings: Settings, sealing: Sealing) -> str:
    """Return the object key of a seal: unique, so never reused and never overwritten."""
    prefix = settings.object_prefix.strip("/")
    digits = max(1, (sealing.bits + 3) // 4)
    folder = f"{sealing.day}/{sealing.first_shard:0{digits}x}"
    return (
        f"{prefix}/{folder}/{sealing.container_id}.des" if prefix else f"{folder}/{sealing.container_id}.des"
    )


def system_metadata(file: OpenFile, facts: FileFacts, layout: str) -> SystemMetadata | None:
    """Return what the container must say of a file beyond its size and user metadata."""
    blocks: tuple[int, ...] = ()
    block_size: int | None = None
    if facts.external is not None:
        blocks, block_size = facts.external.block_crc32c, facts.external.block_size
    elif len(file.blocks) > 1:
        blocks = tuple(extent.crc32c for extent in file.blocks)
        block_size = BLOCK_SIZE
    crc32c = file.crc32c if layout == "v1" or facts.external is not None else None
    if crc32c is None and not facts.content_type and block_size is None:
        return None
    return SystemMetadata(
        crc32c=crc32c, content_type=facts.content_type, block_size=block_size, block_crc32c=blocks
    )


def _staging_error(error: OSError) -> StagingError:
    return StagingError(f"cannot write to {STAGING}: {error}", retry_after_s=5)


def _add_batch(writer: DesWriter, batch: list[OpenFile], loaded: LoadedFiles) -> None:
    """Hand files to the writer, which compares each with its checksum."""
    for file in batch:
        facts = FileFacts.decode(file.facts)
        system = system_metadata(file, facts, writer.layout)
        if facts.external is not None:
            writer.add_external(
                file.name,
                size=file.size,
                external_key=facts.external.key,
                metadata=facts.metadata,
                system=system,
            )
        else:
            writer.add_file(
                file.name,
                loaded.cut(file),
                size=file.size,
                metadata=facts.metadata,
                system=system,
                crc32c=file.crc32c,
            )


def _batches(files: Sequence[OpenFile]) -> Iterator[list[OpenFile]]:
    batch: list[OpenFile] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.size if _is_in_log(file) else 0
        if size >= BATCH_BYTES or len(batch) >= BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _is_in_log(file: OpenFile) -> bool:
    return bool(file.offset or file.blocks)


def _times(files: Sequence[OpenFile], wrap_bits: int) -> tuple[int, int]:
    """Return when the first and the last of the names were made, in UTC milliseconds since 1970.

    Raises:
        InvalidNameError: the day has no such time; the names were made with other `wrap_bits`.
    """
    times = [created_ms_of(file.name, wrap_bits) for file in files]
    last = max(times)
    # Counted from the start of the day, so that a time behind its end is the last one.
    created_ms(parse_name(files[times.index(last)].name), wrap_bits)
    return min(times), last
