"""A container proven before it is committed: as it was built, and as it reads back from the store."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from des.core import S3DesReader
from des.core.container_index import ContainerIndex
from des.core.joined_reads import run_jobs
from des.core.paged_index import check_all_pages
from des.db.catalog import ContainerRow
from des.errors import CorruptError
from des.format.ext import ExtGeometry
from des.format.index import FLAG_COMPRESSED, IndexEntry
from des.ingest.values import OpenFile
from des.packer.container_builder import BuiltContainer
from des.packer.end_digest import end_sha256
from des.packer.object_metadata import SHA256
from des.storage.object_store import ObjectInfo, ObjectStore

SAMPLES: Final = 8
"""Files whose bytes are read back, besides first and last."""
READ_AT_ONCE: Final = 4
"""Of them read beside each other."""
COMPARED_AT_ONCE: Final = 8 << 20
"""Bytes of one read when two copies are compared."""


class ContainerUnreadableError(CorruptError):
    """A container just uploaded does not read back as what went into it."""


async def check_readable(
    store: ObjectStore, info: ObjectInfo, row: ContainerRow, files: Sequence[OpenFile]
) -> None:
    """Read footer, EXT, INDEX, every entry both ways, and some files' bytes. For what another start uploaded.

    Raises:
        ContainerUnreadableError: an entry is missing or differs; the container is not committed.
        CorruptError: a section or a sampled file fails its checksum.
    """
    if info.metadata.get(SHA256) != row.sha256:
        ext_start = row.geometry.index_start + row.geometry.index_length
        if (found := await end_sha256(store, info, ext_start)) != row.sha256:
            raise ContainerUnreadableError(
                f"the end of container {row.container_id} has SHA-256 {found}, announced was {row.sha256}",
                container_id=row.container_id,
            )
    reader = S3DesReader(store, info.key, etag=info.etag, size=info.size)
    await reader.open()
    index = await reader.get_index()
    await reader.check_pages()
    await asyncio.to_thread(_check_entries, index, row, files)
    await _check_samples(reader, [(file, index.find(file.name)) for file in _samples(files)], row)


def check_built(built: BuiltContainer) -> None:
    """Demand that the container has each file, and leads to it both ways. Reads HASHPAGES; no waits.

    Raises:
        ContainerUnreadableError: an entry is missing or differs.
        CorruptError: a page is damaged, or does not lead to a file.
    """
    _check_entries(built.index, built.row, built.files)
    geometry = ExtGeometry.of(built.ext, built.footer)
    if geometry is not None:
        pages = geometry.pages
        check_all_pages(pages, built.body.pread(pages.length, pages.start), built.index, built.footer)


async def check_uploaded(store: ObjectStore, info: ObjectInfo, built: BuiltContainer) -> None:
    """Demand that the object is the container as built: all behind DATA byte for byte, of DATA some files.

    That the rest of DATA is whole, a store that takes checksums said of every part.

    Raises:
        ContainerUnreadableError: it is not.
        CorruptError: a sampled file fails its checksum.
    """
    for start in range(built.footer.meta_start, info.size, COMPARED_AT_ONCE):
        stop = min(info.size, start + COMPARED_AT_ONCE)
        found = await store.get_range(info.key, start, stop, etag=info.etag)
        if found != await asyncio.to_thread(built.body.pread, stop - start, start):
            raise ContainerUnreadableError(
                f"container {built.row.container_id} reads back with other bytes in [{start}, {stop})",
                container_id=built.row.container_id,
            )
    reader = S3DesReader(store, info.key, etag=info.etag, size=info.size)
    await reader.open()
    await _check_samples(
        reader, [(file, built.index.find(file.name)) for file in _samples(built.files)], built.row
    )


def _check_entries(index: ContainerIndex, row: ContainerRow, files: Sequence[OpenFile]) -> None:
    """Demand an entry for each file, in the order in which they were written.

    For all files at once; where that finds something, one by one, which says what.
    """
    if len(index) != len(files):
        raise ContainerUnreadableError(
            f"container {row.container_id} has {len(index)} files, expected {len(files)}",
            container_id=row.container_id,
        )
    names, entries = index.table()
    sizes = np.fromiter((file.size for file in files), np.uint64, len(files))
    as_long = (entries["data_length"] == sizes) | ((entries["flags"] & FLAG_COMPRESSED) != 0)
    if names == [file.name.encode() for file in files] and bool(as_long.all()):
        return
    for entry, file in zip(index, files, strict=True):
        if entry.name != file.name or (entry.data_length != file.size and not entry.is_compressed):
            raise ContainerUnreadableError(
                f"container {row.container_id} has {entry} for file {file.name!r} of {file.size} bytes",
                container_id=row.container_id,
                name=file.name,
            )


def _samples(files: Sequence[OpenFile]) -> list[OpenFile]:
    step = max(1, len(files) // SAMPLES)
    last = len(files) - 1
    return [
        file
        for number, file in enumerate(files)
        if (file.offset or file.blocks) and (number % step == 0 or number == last)
    ]


async def _check_samples(
    reader: S3DesReader, samples: Sequence[tuple[OpenFile, IndexEntry | None]], row: ContainerRow
) -> None:
    await run_jobs([partial(_check_sample, reader, *sample, row) for sample in samples], READ_AT_ONCE)


async def _check_sample(
    reader: S3DesReader, file: OpenFile, entry: IndexEntry | None, row: ContainerRow
) -> None:
    if entry is None:
        raise ContainerUnreadableError(
            f"container {row.container_id} does not find file {file.name!r}",
            container_id=row.container_id,
            name=file.name,
        )
    data, metadata = await reader.read_entry(entry)
    if (len(data), metadata.system.crc32c) != (file.size, file.crc32c):
        raise ContainerUnreadableError(
            f"container {row.container_id} gives {len(data)} bytes for file {file.name!r} "
            f"of {file.size} bytes, or another checksum",
            container_id=row.container_id,
            name=file.name,
        )
