"""Shipped segments: files of the log in the object store, before any seal (docs/log.md, section 7).

Pure: files in, one object's bytes out, and back. A shipped segment is a whole, ended segment of the
log's own format that stands alone: the blocks of a long file stand in it before the file's record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import google_crc32c

from des.errors import CorruptError
from des.ingest import record
from des.ingest.record import Draft, Kind
from des.ingest.scan import Found, scan_segment
from des.ingest.segment import HEADER_SIZE, SegmentHeader, SegmentHeaderError
from des.ingest.values import Extent, OpenFile

FOLDER: Final = "_log"
"""First part of every shipped segment's key, behind the store's own prefix."""
SHIPPED_SHA256: Final = "des-sha256"
"""Metadata of the object: its own SHA-256."""
SHIPPED_SEQS: Final = "des-seqs"
"""... numbers of its first and its last file in the log of its node, with "-" between."""
SHIPPED_SHARD_BITS: Final = "des-shard-bits"
"""... what its records' shards count in."""


class ShippedSegmentError(CorruptError):
    """A shipped segment is not what was shipped; nothing of it is believed."""

    reason = "LOG_CORRUPT"


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """A file as a shipped segment holds it."""

    name: str
    day: int
    """UTC day of the name as a number, YYYYMMDD."""
    shard: int
    """In the shard bits of the store when it was written."""
    size: int
    crc32c: int
    """Of the whole file."""
    facts: bytes
    parts: tuple[bytes, ...] | None
    """The file's bytes in order, each part at most `record.DATA_MAX` long; None: in the object store."""


def shipped_key(prefix: str, *, node: UUID | str, boot_epoch: int, number: int) -> str:
    """Return the object key of a shipped segment; it is never used twice.

    >>> shipped_key("", node="n", boot_epoch=3, number=26)
    '_log/n/00000003/0000001a.dlog'
    """
    folder = f"{prefix.strip('/')}/{FOLDER}" if prefix.strip("/") else FOLDER
    return f"{folder}/{node}/{boot_epoch:08x}/{number:08x}.dlog"


def shipped_size(file: OpenFile) -> int:
    """Return how many bytes a file takes in a shipped segment, within a few per cent."""
    heads = (1 + len(file.blocks)) * (record.HEADER_SIZE + 24)
    return heads + len(file.name) + len(file.facts) + sum(extent.length for extent in file.extents)


def encode_shipped(
    files: Sequence[tuple[OpenFile, Sequence[bytes]]],
    *,
    node: UUID,
    boot_epoch: int,
    number: int,
    salt: int,
    time_ms: int,
) -> bytes:
    """Return the segment of `files`, each with its bytes extent by extent, in log order.

    Records are numbered anew, without a gap, from the log's number of the first file.
    """
    first_seq = files[0][0].seq
    header = SegmentHeader(node, boot_epoch, number, first_seq, salt)
    parts: list[bytes] = [header.encode()]
    offset, seq, last_crc = HEADER_SIZE, first_seq, header.crc

    def append(draft: Draft) -> int:
        """Append a record; return where its data start."""
        nonlocal offset, seq, last_crc
        head, last_crc = record.encode(
            draft, seq=seq, group=first_seq, time_ms=time_ms, prev_crc=last_crc, salt=salt
        )
        parts.extend((head, draft.data))
        data_at = offset + len(head)
        offset, seq = data_at + len(draft.data), seq + 1
        return data_at

    for file, pieces in files:
        name = file.name.encode()
        if file.offset or not file.size:
            data = pieces[0] if pieces else b""
            append(Draft(Kind.FILE, 0, name, file.facts, data, file.crc32c, file.day, file.shard))
            continue
        extents = []
        for piece, extent in zip(pieces, file.blocks, strict=True):
            at = append(Draft(Kind.BLOCK, 0, b"", b"", piece, extent.crc32c, 0, 0))
            extents.append(Extent(number, at, extent.length, extent.crc32c))
        text = record.encode_outside(size=file.size, crc32c=file.crc32c, extents=extents, facts=file.facts)
        flags = record.FLAG_BLOCKS if extents else record.FLAG_EXTERNAL
        append(Draft(Kind.FILE, flags, name, text, b"", 0, file.day, file.shard))
    append(record.end_draft())
    return b"".join(parts)


def decode_shipped(data: bytes, *, node: UUID, boot_epoch: int, number: int) -> list[ShippedFile]:
    """Return the files of a shipped segment: all of them, or an error.

    Raises:
        ShippedSegmentError: the bytes are not this segment, whole and unchanged.
        LogVersionError: a newer version wrote it.
    """

    def read(size: int, offset: int) -> bytes:
        return data[offset : offset + size]

    where = f"shipped segment {number} of node {node}, start {boot_epoch}"
    try:
        header = SegmentHeader.decode(data)
    except SegmentHeaderError as error:
        raise ShippedSegmentError(f"{where}: {error}") from error
    if (header.node, header.boot_epoch, header.number) != (node, boot_epoch, number):
        raise ShippedSegmentError(
            f"{where} says segment {header.number} of node {header.node}, start {header.boot_epoch}"
        )
    found = Found()
    scan = scan_segment(read, header, found)
    if not scan.ended or scan.stop != len(data):
        cause = scan.cause or f"{len(data) - scan.stop} bytes stand behind its END record"
        raise ShippedSegmentError(f"{where} is damaged at {scan.stop}: {cause}")
    return [_shipped(file, data, found, where) for file in found.files]


def _shipped(file: OpenFile, data: bytes, found: Found, where: str) -> ShippedFile:
    parts: tuple[bytes, ...] | None
    if file.blocks:
        strange = [each for each in file.blocks if found.blocks.get((each.segment, each.offset)) != each]
        if strange:
            raise ShippedSegmentError(f"{where}: file {file.name!r} names {strange[0]}: no block of it")
        parts = tuple(data[each.offset : each.offset + each.length] for each in file.blocks)
        crc32c = 0
        for part in parts:
            crc32c = google_crc32c.extend(crc32c, part)
        if (sum(map(len, parts)), crc32c) != (file.size, file.crc32c):
            raise ShippedSegmentError(f"{where}: the blocks of file {file.name!r} are not its bytes")
    elif file.offset:
        parts = (data[file.offset : file.offset + file.size],)
    else:
        parts = None if file.size else ()
    return ShippedFile(file.name, file.day, file.shard, file.size, file.crc32c, file.facts, parts)
