"""From log records to the bytes of a container: the same records give the same bytes (I10)."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from des.config import Settings
from des.core import DesWriter
from des.core.container_index import ContainerIndex
from des.db.catalog import ContainerRow, ContainerState, ShardRun
from des.files import BLOCK_SIZE
from des.format.compressor import Compressor, Samples
from des.format.ext import Ext, ExtGeometry
from des.format.footer import Footer
from des.format.layout import Layout
from des.format.system_metadata import SystemMetadata
from des.ingest.facts import FileFacts
from des.ingest.log_reader import LogReader
from des.ingest.values import OpenFile, Sealing
from des.packer.container_geometry import geometry_of
from des.packer.container_stream import ContainerStream, KeptBytes
from des.packer.described_files import DescribedFiles
from des.packer.log_reads import LoadedFiles, load_files
from des.packer.object_metadata import ContainerFacts, encode_metadata
from des.storage.disk import Disk
from des.storage.object_store import ObjectStore, ObjectUpload

STAGING: Final = "staging"
"""Folder in which earlier releases built containers; what one left there is removed."""
STREAMED_FROM: Final = 16 << 20
"""Bytes of files from which a container is uploaded while it is built; a shorter one is built in memory."""
BATCH_BYTES: Final = 4 << 20
"""Record bytes read ahead of the writer."""
BATCH_FILES: Final = 256
FACTS_KEPT_MAX: Final = 512
"""Bytes of facts, of a thousand of which it is remembered what they say."""
SAMPLES_AT_ONCE: Final = 16
"""Samples of at most 256 KiB that are read on the event loop before others have their turn."""


class ContainerBuilder:
    """Builds containers: short ones in memory, long ones into an upload. Nothing is kept on the disk."""

    def __init__(self, *, settings: Settings, disk: Disk, log: LogReader, node: str) -> None:
        self._settings = settings
        self._disk = disk
        self._log = log
        self._node = node

    def clear_staging(self) -> None:
        """Remove what a process of an earlier release was building; the log still has all of it."""
        for name in self._disk.list(STAGING):
            self._disk.remove(f"{STAGING}/{name}")

    @asynccontextmanager
    async def build(
        self, sealing: Sealing, files: Sequence[OpenFile], store: ObjectStore
    ) -> AsyncIterator["BuiltContainer"]:
        """Make the container of `files`; a long one goes to `store` meanwhile, where nobody sees it yet.

        When the block ends, an upload that was not finished is dropped.

        Raises:
            CorruptError: a record does not match its checksum; nothing was built.
            DesError: the store did not take a part.
        """
        described = await asyncio.to_thread(DescribedFiles.of, files, self._settings.wrap_bits)
        facts = ContainerFacts(
            container_id=sealing.container_id,
            sha256="",
            epoch=sealing.epoch,
            run=ShardRun(sealing.first_shard, sealing.span, sealing.bits),
            node=self._node,
            name_ms_first=described.ms_first,
            name_ms_last=described.ms_last,
            data_bytes=described.data_bytes,
        )
        key = container_key(self._settings, sealing)
        upload: ObjectUpload | None = None
        if described.contained_bytes >= STREAMED_FROM:
            upload = await store.begin_upload(key, metadata=encode_metadata(facts))
        stream = ContainerStream(upload)
        try:
            yield await self._write(sealing, files, key, described, stream, upload)
        finally:
            await stream.drop()
            if upload is not None:
                await upload.abort()

    async def _write(
        self,
        sealing: Sealing,
        files: Sequence[OpenFile],
        key: str,
        described: DescribedFiles,
        stream: ContainerStream,
        upload: ObjectUpload | None,
    ) -> "BuiltContainer":
        writer = DesWriter(
            stream,
            layout=sealing.layout,
            digest=True,
            compressor=await self._compressor(sealing, files),
            container_id=sealing.container_id,
        )
        await self._add_all(writer, files, stream)
        footer = await asyncio.to_thread(writer.finish)
        kept = await stream.end()
        row = ContainerRow(
            container_id=sealing.container_id,
            day=str(sealing.day),
            run=ShardRun(sealing.first_shard, sealing.span, sealing.bits),
            key=key,
            state=ContainerState.UPLOADING,
            epoch=sealing.epoch,
            layout=sealing.layout,
            sha256=writer.end_sha256,
            geometry=geometry_of(footer, ExtGeometry.of(writer.ext, footer), size=writer.size),
            name_ms_first=described.ms_first,
            name_ms_last=described.ms_last,
            data_bytes=described.data_bytes,
            node=self._node,
            name_first=described.name_first,
            name_last=described.name_last,
        )
        return BuiltContainer(row, kept, files, footer, writer.index, writer.ext, upload)

    async def _add_all(self, writer: DesWriter, files: Sequence[OpenFile], stream: ContainerStream) -> None:
        """Hand the writer every file, while the next are read from the log and the last are uploaded."""
        batches = _batches(files)
        batch = next(batches, [])
        loaded = await load_files(self._log, batch)
        while batch:
            following = next(batches, [])
            if not self._log.reads_aside:
                await asyncio.to_thread(_add_batch, writer, batch, loaded)
                await stream.hand_on()
                batch, loaded = following, await load_files(self._log, following)
                continue
            reading = asyncio.ensure_future(load_files(self._log, following))
            try:
                await asyncio.to_thread(_add_batch, writer, batch, loaded)
                await stream.hand_on()
                batch, loaded = following, await reading
            except BaseException:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                raise

    async def _compressor(self, sealing: Sealing, files: Sequence[OpenFile]) -> Compressor | None:
        """Train on a sample of what the container will hold: a first, short pass over the records."""
        if sealing.layout != Layout.FRAMED or self._settings.compression == "off":
            return None
        samples = await asyncio.to_thread(_choose, files)
        loaded: dict[int, bytes] = {}
        for number, place in enumerate(samples.places):
            if number % SAMPLES_AT_ONCE == 0:
                await asyncio.sleep(0)  # the loop is others' too
            parts = [await self._log.read(extent) for extent in files[place].extents]
            loaded[place] = b"".join(parts)
        return await asyncio.to_thread(Compressor.train, samples, loaded)


@dataclass(frozen=True, slots=True)
class BuiltContainer:
    """A container that is whole, and what must be true of it."""

    row: ContainerRow
    body: KeptBytes
    """What follows DATA, at least; of a container without an upload everything."""
    files: Sequence[OpenFile]
    footer: Footer
    index: ContainerIndex
    """INDEX as the writer read it back."""
    ext: Ext | None
    upload: ObjectUpload | None = None
    """That has taken every byte, and is to be finished."""


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


def _choose(files: Sequence[OpenFile]) -> Samples:
    return Samples.choose(
        (_facts(file.facts).content_type, file.size if _is_in_log(file) else -1) for file in files
    )


def _facts(encoded: bytes) -> FileFacts:
    """Return the facts of a file; of files of one kind mostly the same is known."""
    return _decode_known(encoded) if len(encoded) <= FACTS_KEPT_MAX else FileFacts.decode(encoded)


_decode_known: Final = lru_cache(maxsize=1024)(FileFacts.decode)


def _add_batch(writer: DesWriter, batch: list[OpenFile], loaded: LoadedFiles) -> None:
    """Hand files to the writer, which compares each with its checksum."""
    for file in batch:
        facts = _facts(file.facts)
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
