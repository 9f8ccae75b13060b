"""Adds EXT to a container from its INDEX and metadata alone: DATA is copied where it lies, and never read.

What nobody recorded cannot be proven afterwards: a v1 file without a checksum stays without (docs/format.md,
section 14), and there is no BLOCKCRC. `des.core.rebuild.upgrade` reads every byte, and proves them all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from des.core.byte_source import ByteSource
from des.core.container_index import ContainerIndex
from des.core.ext_builder import ExtBuilder
from des.core.rebuild import read_without_ext
from des.format.byte_range import ByteRange
from des.format.compression import CODEC_RAW
from des.format.crc_combine import combine
from des.format.ext_trailer import Feature
from des.format.footer import Footer
from des.format.frame import FRAME_HEADER_SIZE, FrameHeader, frame_start
from des.format.hash_pages import SLOT_UNPROVEN
from des.format.index import FIXED, NAME_LENGTH, IndexEntry
from des.format.layout import Layout
from des.format.metadata import decode_metadata
from des.format.name_key import bound_seed, name_digest
from des.format.system_metadata import SystemMetadata
from des.storage.object_store import CopyingUpload, ObjectInfo

_NO_BYTES: Final = 0


@dataclass(slots=True)
class Upgraded:
    """What became of a container."""

    footer: Footer
    unproven: int = 0
    """v1 files of which nobody recorded a checksum."""


def ext_without_data(source: ByteSource, container_id: UUID) -> tuple[Upgraded, Iterator[bytes]]:
    """Return EXT and FOOTER of a container that has no EXT; the bytes up to INDEX's end stay before them.

    Reads HEADER, META, INDEX and FOOTER; of a compressed file the header of its frame too.

    Raises:
        CorruptContainerError: the container is damaged.
        ExtThereError: it has EXT.
    """
    footer, index = read_without_ext(source)
    upgraded = Upgraded(footer)
    builder = ExtBuilder(Feature.UPGRADED)
    meta = bytearray()
    names: list[bytes] = []
    add = _add_framed if footer.layout is Layout.FRAMED else _add_v1
    position = 0
    for entry in ContainerIndex.parse(index, footer):
        add(source, builder, entry, position, meta, upgraded)
        names.append(entry.name.encode())
        position += NAME_LENGTH.size + len(entry.name.encode()) + FIXED.size
    parts = builder.finish(
        footer, sorted(names), index=index, meta=bytes(meta), checksums=None, container_id=container_id
    )

    def whole() -> Iterator[bytes]:
        yield from parts
        yield footer.encode()

    return upgraded, whole()


async def upgrade_in_store(
    source_key: str, etag: str, index_stop: int, end: Iterator[bytes], upload: CopyingUpload
) -> ObjectInfo:
    """Make the new object of an old one's bytes up to `index_stop`, which the store copies, and `end`.

    Raises:
        ObjectChangedError: the old object is another by now.
        ObjectExistsError: the new key is taken.
        ObjectStoreUnavailableError: outcome unknown.
    """
    try:
        await upload.copy_from(source_key, 0, index_stop, etag=etag)
        for part in end:
            await upload.write(part)
        return await upload.finish()
    except BaseException:
        await upload.abort()
        raise


def _add_framed(
    source: ByteSource,
    builder: ExtBuilder,
    entry: IndexEntry,
    position: int,
    _meta: bytearray,
    _upgraded: Upgraded,
) -> None:
    start, slot, raw_length = frame_start(entry), CODEC_RAW, None
    if entry.is_compressed:
        header = FrameHeader.decode(source.read(ByteRange(start, start + FRAME_HEADER_SIZE)))
        slot, raw_length = header.codec, header.raw_length
    builder.add(
        name_digest(entry.name.encode()),
        offset=start,
        length=entry.data_length,
        flags=entry.flags,
        proof=entry.meta_length,
        index_position=position,
        meta_position=0,
        slot=slot,
        raw_length=raw_length,
    )


def _add_v1(
    source: ByteSource,
    builder: ExtBuilder,
    entry: IndexEntry,
    position: int,
    meta: bytearray,
    upgraded: Upgraded,
) -> None:
    document = source.read(ByteRange(entry.meta_offset, entry.meta_offset + entry.meta_length))
    digest = name_digest(entry.name.encode())
    seed = bound_seed(digest)
    proof: int | None = seed
    if entry.data_length and not entry.is_external:
        crc32c = recorded_crc32c(decode_metadata(document, entry).system, entry.data_length)
        proof = None if crc32c is None else combine(seed, crc32c, entry.data_length)
        upgraded.unproven += proof is None
    builder.add(
        digest,
        offset=entry.data_offset,
        length=entry.data_length,
        flags=entry.flags,
        proof=proof or 0,
        index_position=position,
        meta_position=len(meta),
        slot=CODEC_RAW if proof is not None else SLOT_UNPROVEN,
    )
    meta += document


def recorded_crc32c(system: SystemMetadata, size: int) -> int | None:
    """Return the CRC32C of a file of `size` bytes as its metadata records it; None where it does not."""
    if system.crc32c is not None or system.block_size is None:
        return system.crc32c
    block_size = system.block_size
    lengths = [min(block_size, size - start) for start in range(0, size, block_size)]
    whole = _NO_BYTES
    for crc32c, length in zip(system.block_crc32c, lengths, strict=True):
        whole = combine(whole, crc32c, length)
    return whole
