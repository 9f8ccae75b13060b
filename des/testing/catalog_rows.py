"""Rows of the catalog to write in tests, and the claims that a write shows."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from des.db.catalog import (
    Catalog,
    ContainerGeometry,
    ContainerRow,
    ContainerState,
    ShardClaim,
    ShardLock,
    ShardRun,
)
from des.db.rows import LogSegmentId, LogSegmentRow, OpenContainer, Tombstone
from des.naming import consistent_hash

PassTime = Callable[[float], Awaitable[None]]
"""Lets seconds pass on the catalog's clock."""

ANNA: Final = "0193a000-0000-7000-8000-00000000000a"
BERT: Final = "0193a000-0000-7000-8000-00000000000b"
LONG_S: Final = 3600.0
SHORT_S: Final = 0.05
DAY: Final = "20260228"


def container_row(number: int = 1, *, run: ShardRun | None = None, **changes: Any) -> ContainerRow:
    """Return an announcement; rows of different numbers differ in id, key, names and size."""
    run = run or ShardRun(first=8, span=4, bits=8)
    row = ContainerRow(
        container_id=f"0193a000-0000-7000-8000-{number:012}",
        day=DAY,
        run=run,
        key=f"{DAY}/{run.first:02x}/{number}.des",
        state=ContainerState.UPLOADING,
        epoch=1,
        layout="framed",
        sha256=f"{number:064x}",
        geometry=ContainerGeometry(
            size=10_000_000_000 + number,
            data_start=16,
            data_length=9_000_000_000,
            meta_start=9_000_000_016,
            meta_length=0,
            index_start=9_000_000_016,
            index_length=500_000_000,
            file_count=100 + number,
            ext_table_start=9_900_000_000,
            pages_start=9_500_001_000,
            pages_length=4096 * 7,
            page_count=6,
        ),
        name_ms_first=1_772_236_800_000 + number,
        name_ms_last=1_772_236_900_000 + number,
        data_bytes=20_000_000_000 + number,
        node="0193a000-0000-7000-8000-0000000000cc",
        name_first=f"DES_{DAY}_(00000000{number:04X}_00)",
        name_last=f"DES_{DAY}_(FFFFFFFF{number:04X}_00)",
    )
    return replace(row, **changes)


def tombstone_row(number: int = 1, *, bits: int = 8, **changes: Any) -> Tombstone:
    """Return a tombstone; rows of different numbers differ in name and so in shard."""
    name = f"DES_{DAY}_({number:012X}_{sum(number.to_bytes(6, 'big')) % 256:02X})"
    row = Tombstone(name=name, day=DAY, shard=consistent_hash(name, bits), bits=bits, epoch=1)
    return replace(row, **changes)


def open_row(shard: int = 0, *, day: str = DAY, **changes: Any) -> OpenContainer:
    """Return what a shard has open."""
    row = OpenContainer(
        day=day, shard=shard, bits=8, files=3 + shard, data_bytes=5_000_000_000, oldest_ms=77, node=ANNA
    )
    return replace(row, **changes)


def segment_row(number: int = 1, *, node: str = ANNA, **changes: Any) -> LogSegmentRow:
    """Return a shipped segment; rows of different numbers differ in id, key and content."""
    row = LogSegmentRow(
        id=LogSegmentId(node, 3, number),
        key=f"_log/{node}/3/{number:08x}.dlog",
        etag=f'"{number}"',
        sha256=f"{number:064x}",
        size=5_000_000_000 + number,
        first_seq=10 * number,
        last_seq=10 * number + 9,
        file_count=10,
        days=(DAY, "20260301"),
        shards=(0, 1, 255),
        bits=8,
    )
    return replace(row, **changes)


def claim_of(locks: Sequence[ShardLock]) -> ShardClaim:
    """Return what the holder of `locks` shows."""
    return ShardClaim(holder=locks[0].holder, epochs=[(lock.shard, lock.epoch) for lock in locks])


async def claim(catalog: Catalog, shards: Sequence[int], *, holder: str = ANNA) -> ShardClaim:
    """Take the locks of `shards`, free or not."""
    return claim_of(await catalog.acquire_shards(shards, holder=holder, ttl_s=LONG_S, force=True))


async def store(catalog: Catalog, row: ContainerRow) -> ContainerRow:
    """Announce and commit `row` under a new claim."""
    own = await claim(catalog, range(row.run.first, row.run.first + row.run.span))
    await catalog.announce_container(row, own)
    return await catalog.commit_container(row.container_id, etag=f'"{row.sha256[-6:]}"', claim=own)
