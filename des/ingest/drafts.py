"""From what a caller hands in to a record, and from a written record to an open file."""

import google_crc32c

from des.ingest import record
from des.ingest.record import Draft, Kind
from des.ingest.values import Extent, FileDraft, OpenFile


def check_data(data: bytes, crc32c: int) -> None:
    """Refuse data that are too long or not what their checksum says.

    A wrong checksum would make a valid file, and all behind it, look like damage at the next start.

    Raises:
        ValueError: they are.
    """
    if len(data) > record.DATA_MAX:
        raise ValueError(f"{len(data)} bytes of data in one record, at most {record.DATA_MAX} are allowed")
    if google_crc32c.value(data) != crc32c:
        raise ValueError(f"data do not match their checksum {crc32c:#010x}")


def file_record(draft: FileDraft, loose: set[Extent]) -> Draft:
    """Return the FILE record of a draft whose blocks are all `loose`.

    Raises:
        ValueError: the draft contradicts itself, is beyond a limit, or names blocks that are not loose.
    """
    name = draft.name.encode()
    if not name or len(name) > record.NAME_MAX:
        raise ValueError(f"a name of {len(name)} bytes, expected 1 to {record.NAME_MAX}")
    if draft.data is not None:
        if draft.blocks or draft.size != len(draft.data):
            raise ValueError(f"{len(draft.data)} bytes and {len(draft.blocks)} blocks for size {draft.size}")
        check_data(draft.data, draft.crc32c)
        flags, text, data, data_crc = 0, draft.facts, draft.data, draft.crc32c
    else:
        if draft.blocks and draft.size != sum(extent.length for extent in draft.blocks):
            raise ValueError(f"the blocks of {draft.name!r} do not add up to {draft.size} bytes")
        if not draft.size:
            raise ValueError("an empty file has data b'', not None")
        if not loose.issuperset(draft.blocks) or len(set(draft.blocks)) != len(draft.blocks):
            raise ValueError(f"blocks of {draft.name!r} were released or taken by another file")
        flags = record.FLAG_BLOCKS if draft.blocks else record.FLAG_EXTERNAL
        text = record.encode_outside(
            size=draft.size, crc32c=draft.crc32c, extents=draft.blocks, facts=draft.facts
        )
        data, data_crc = b"", 0
    if len(text) > record.TEXT_MAX:
        raise ValueError(f"{len(text)} bytes of facts and extents, at most {record.TEXT_MAX} are allowed")
    return Draft(Kind.FILE, flags, name, text, data, data_crc, draft.day, draft.shard)


def open_file(draft: FileDraft, seq: int, time_ms: int, segment: int, offset: int) -> OpenFile:
    """Return what a written draft has become; `offset` is where its record's data start."""
    return OpenFile(
        draft.name,
        draft.day,
        draft.shard,
        seq,
        time_ms,
        draft.size,
        draft.crc32c,
        draft.facts,
        segment,
        offset if draft.data else 0,
        draft.blocks,
    )
