"""An uploaded container, read as a stranger would read it, before it is committed."""

from collections.abc import Sequence
from typing import Final

from des.core import S3DesReader
from des.db.catalog import ContainerRow
from des.errors import CorruptError
from des.format.index import IndexEntry
from des.ingest.values import OpenFile
from des.storage.object_store import ObjectInfo, ObjectStore

SAMPLES: Final = 8
"""Files whose bytes are read back, besides first and last."""


class ContainerUnreadableError(CorruptError):
    """A container just uploaded does not read back as what went into it."""


async def check_readable(
    store: ObjectStore, info: ObjectInfo, row: ContainerRow, files: Sequence[OpenFile]
) -> None:
    """Read footer, EXT, INDEX, every entry both ways, and some files' bytes.

    Raises:
        ContainerUnreadableError: an entry is missing or differs; the container is not committed.
        CorruptError: a section or a sampled file fails its checksum.
    """
    reader = S3DesReader(store, info.key, etag=info.etag, size=info.size)
    await reader.open()
    index = await reader.get_index()
    await reader.check_pages()
    step = max(1, len(files) // SAMPLES)
    for number, file in enumerate(files):
        entry = index.find(file.name)
        if entry is None or (entry.data_length != file.size and not entry.is_compressed):
            raise ContainerUnreadableError(
                f"container {row.container_id} has {entry} for file {file.name!r} of {file.size} bytes",
                container_id=row.container_id,
                name=file.name,
            )
        if file.extents and (number % step == 0 or number == len(files) - 1):
            await _check_file(reader, entry, file, row)


async def _check_file(reader: S3DesReader, entry: IndexEntry, file: OpenFile, row: ContainerRow) -> None:
    data, metadata = await reader.read_entry(entry)
    if (len(data), metadata.system.crc32c) != (file.size, file.crc32c):
        raise ContainerUnreadableError(
            f"container {row.container_id} gives {len(data)} bytes for file {file.name!r} "
            f"of {file.size} bytes, or another checksum",
            container_id=row.container_id,
            name=file.name,
        )
