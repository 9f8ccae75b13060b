"""The row of a shipped log segment from its object alone (docs/log.md, section 7)."""

from typing import Final

from des.db.rows import LogSegmentId, LogSegmentRow
from des.errors import CorruptError
from des.ingest.segment import SegmentHeader
from des.ingest.shipped import SHIPPED_SEQS, SHIPPED_SHA256, SHIPPED_SHARD_BITS, decode_shipped, shipped_key
from des.naming import consistent_hash
from des.storage.object_store import ObjectInfo, ObjectStore

READ_BYTES: Final = 8 << 20


async def segment_row(
    store: ObjectStore, info: ObjectInfo, *, prefix: str, bits: int | None = None
) -> LogSegmentRow:
    """Return the row that a shipped segment's object stands for; `info` with its metadata. Reads all of it.

    Its shards are of `2**bits`; where None, of as many as the store had when the object was written.

    Raises:
        CorruptError: the object is no whole segment, or does not say enough about itself.
        DesError: it could not be read.
    """
    parts = [
        await store.get_range(info.key, start, min(info.size, start + READ_BYTES), etag=info.etag)
        for start in range(0, info.size, READ_BYTES)
    ]
    header = SegmentHeader.decode(parts[0] if parts else b"")
    node, boot_epoch, number = header.node, header.boot_epoch, header.number
    key = shipped_key(prefix, node=node, boot_epoch=boot_epoch, number=number)
    if info.key != key:
        raise CorruptError(f"object {info.key!r} says it is {key!r}")
    files = decode_shipped(b"".join(parts), node=node, boot_epoch=boot_epoch, number=number)
    try:
        first_seq, last_seq = map(int, info.metadata[SHIPPED_SEQS].split("-"))
        made_with, sha256 = int(info.metadata[SHIPPED_SHARD_BITS]), info.metadata[SHIPPED_SHA256]
    except (KeyError, ValueError) as error:
        raise CorruptError(f"metadata of shipped segment {info.key!r} are {dict(info.metadata)}") from error
    bits = made_with if bits is None else bits
    return LogSegmentRow(
        id=LogSegmentId(str(node), boot_epoch, number),
        key=info.key,
        etag=info.etag,
        sha256=sha256,
        size=info.size,
        first_seq=first_seq,
        last_seq=last_seq,
        file_count=len(files),
        days=tuple(sorted({str(file.day) for file in files})),
        shards=tuple(sorted({consistent_hash(file.name, bits) for file in files})),
        bits=bits,
    )
