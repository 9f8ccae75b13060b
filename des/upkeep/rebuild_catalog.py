"""Makes the rows of containers, deleted names and shipped segments anew from the bucket: the other copy."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from des.core import S3DesReader
from des.db.catalog import (
    Catalog,
    ContainerRow,
    ContainerState,
    ShardClaim,
    ShardLock,
    ShardRun,
)
from des.db.rows import LogSegmentRow, Tombstone
from des.errors import CorruptError, DesError, PreconditionError
from des.format.byte_range import ByteRange
from des.format.ext import ExtGeometry, open_end
from des.format.name_key import hash_of, name_digest
from des.format.plan import run_async
from des.packer.container_geometry import geometry_of
from des.packer.deleted_names import read_deleted
from des.packer.end_digest import end_sha256
from des.packer.object_metadata import decode_metadata
from des.packer.segment_row import segment_row
from des.storage.identity import WrongStoreError, read_identity
from des.storage.object_store import ObjectInfo, ObjectStore
from des.upkeep.object_keys import ObjectKind, parse_key

TOMBSTONES_AT_ONCE: Final = 5000
"""Rows of one transaction."""
LOCK_TTL_S: Final = 600.0
"""Long enough for the rows to be written; the lock is given back at the end."""


class ShardsHeldError(PreconditionError):
    """A running node holds shards that the rebuild needs to write for."""

    reason = "NOT_SHARD_OWNER"


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild found and did."""

    recorded: list[ContainerRow] = field(default_factory=list)
    """Rows that were made."""
    known: int = 0
    """Containers whose row was there already, and right."""
    segments: list[LogSegmentRow] = field(default_factory=list)
    """Shipped log segments that are held now."""
    tombstones: int = 0
    """Deleted names that copies in the object store had."""
    superseded: list[str] = field(default_factory=list)
    """Keys of containers all of whose files are in newer ones: left to the collection of garbage."""
    refused: dict[str, str] = field(default_factory=dict)
    """Key -> why no row could be made; the object stays as it is."""


async def rebuild_catalog(
    catalog: Catalog,
    store: ObjectStore,
    *,
    holder: str,
    prefix: str = "",
    on_container: Callable[[str], None] = lambda _: None,
) -> RebuildReport:
    """Make the rows that the objects say there were; rows that are there stay.

    Costs a listing, and about four requests, INDEX and EXT of each container. Needs every shard's lock, and
    raises the locks' epochs above those that made the containers, so that no writer of before the loss
    passes for the holder.

    Raises:
        ShardsHeldError: a node is running.
        WrongStoreError: the catalog is another store's.
        DesError: catalog or store did not answer; what was recorded stays, and it may be run again.
    """
    report = RebuildReport()
    identity = await read_identity(store, object_prefix=prefix)
    if (store_id := await catalog.store_id(identity)) != (identity or store_id):
        raise WrongStoreError(f"the objects are those of store {identity}, the catalog is of {store_id}")
    folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    infos = [info async for info in store.list(folder)]
    keys = [info for info in infos if parse_key(info.key, prefix=prefix).kind is ObjectKind.CONTAINER]
    rows: list[ContainerRow] = []
    hashes: dict[str, npt.NDArray[np.uint64]] = {}
    for info in keys:
        try:
            row, names = await _row_of(store, await store.head(info.key), prefix)
        except CorruptError as error:
            report.refused[info.key] = str(error)
            continue
        rows.append(row)
        hashes[row.container_id] = names
        on_container(row.key)
    live = _newest(rows, hashes, report)
    segments = await _segments(store, infos, prefix, report)
    tombstones = await _tombstones(store, infos, prefix, report)
    shipped = {shard for row in segments for shard in row.shards}
    claims = await _take_shards(catalog, rows, tombstones, shipped, holder)
    try:
        # First of all: no deleted file is to be seen in between.
        for start in range(0, len(tombstones), TOMBSTONES_AT_ONCE):
            some = tombstones[start : start + TOMBSTONES_AT_ONCE]
            await catalog.put_tombstones(some, claims(sorted({one.shard for one in some})))
            report.tombstones += len(some)
        for segment in segments:
            report.segments.append(await catalog.record_log_segment(segment, claims(segment.shards)))
        for row in live:
            found = await catalog.container(row.container_id)
            if found is not None and found.state is not ContainerState.UPLOADING:
                report.known += 1
                continue
            try:
                claim = claims(_shards_of(row.run))
                await catalog.announce_container(_announcement(row), claim)
                report.recorded.append(
                    await catalog.commit_container(row.container_id, etag=row.etag, claim=claim)
                )
            except DesError as error:
                if error.retryable:
                    raise
                report.refused[row.key] = str(error)
    finally:
        await catalog.release_shards(claims(None))
    return report


async def _segments(
    store: ObjectStore, infos: list[ObjectInfo], prefix: str, report: RebuildReport
) -> list[LogSegmentRow]:
    """Return the rows of the shipped log segments, all as held; objects that are none are refused.

    One that was never recorded, since its node died in between, counts like the others: nobody was told
    that its files are stored, nor that they are not.
    """
    rows: list[LogSegmentRow] = []
    for info in infos:
        if parse_key(info.key, prefix=prefix).kind is ObjectKind.LOG_SEGMENT:
            try:
                rows.append(await segment_row(store, await store.head(info.key), prefix=prefix))
            except CorruptError as error:
                report.refused[info.key] = str(error)
    return rows


async def _tombstones(
    store: ObjectStore, infos: list[ObjectInfo], prefix: str, report: RebuildReport
) -> list[Tombstone]:
    """Return the deleted names of all copies, each once; copies that cannot be believed are refused."""
    found: dict[str, Tombstone] = {}
    for info in infos:
        if parse_key(info.key, prefix=prefix).kind is ObjectKind.DELETED_NAMES:
            try:
                found.update((one.name, one) for one in await read_deleted(store, info))
            except CorruptError as error:
                report.refused[info.key] = str(error)
    return sorted(found.values(), key=lambda one: one.name)


def _shards_of(run: ShardRun) -> range:
    return range(run.first, run.first + run.span)


async def _row_of(
    store: ObjectStore, info: ObjectInfo, prefix: str
) -> tuple[ContainerRow, npt.NDArray[np.uint64]]:
    """Return the row that a container's object stands for, and its names' hashes.

    Raises:
        CorruptError: the object is no whole container, or does not say enough about itself.
        DesError: it could not be read.
    """
    facts = decode_metadata(info.metadata)
    place = parse_key(info.key, prefix=prefix)
    if (place.name, place.shard) != (facts.container_id, facts.run.first):
        raise CorruptError(
            f"object {info.key!r} says it is container {facts.container_id} from shard {facts.run.first}"
        )

    async def read(wanted: ByteRange) -> bytes:
        return await store.get_range(info.key, wanted.start, wanted.stop, etag=info.etag)

    opened = await run_async(open_end(info.size), read)
    reader = S3DesReader(store, info.key, etag=info.etag, size=info.size)
    await reader.open()
    index = await reader.get_index()
    await reader.check_pages()
    footer = opened.footer
    names = (hash_of(name_digest(entry.name.encode())) for entry in index)
    row = ContainerRow(
        container_id=facts.container_id,
        day=place.day,
        run=facts.run,
        key=info.key,
        state=ContainerState.STORED,
        epoch=facts.epoch,
        layout=footer.layout.value,
        sha256=facts.sha256 or await end_sha256(store, info, footer.index_stop),
        geometry=geometry_of(footer, ExtGeometry.of(opened.ext, footer), size=info.size),
        name_ms_first=facts.name_ms_first,
        name_ms_last=facts.name_ms_last,
        data_bytes=facts.data_bytes,
        node=facts.node,
        etag=info.etag,
        name_first=min((entry.name for entry in index), default=""),
        name_last=max((entry.name for entry in index), default=""),
    )
    return row, np.fromiter(names, dtype=np.uint64, count=len(index))


def _newest(
    rows: list[ContainerRow], hashes: dict[str, npt.NDArray[np.uint64]], report: RebuildReport
) -> list[ContainerRow]:
    """Leave out containers whose files are all in newer ones of their day: an upload that was repeated."""
    by_day: dict[str, list[ContainerRow]] = {}
    for row in sorted(rows, key=lambda one: one.container_id, reverse=True):
        by_day.setdefault(row.day, []).append(row)
    live: list[ContainerRow] = []
    for of_day in by_day.values():
        # One sort for the day: comparing each with all newer ones takes the square of their number.
        sizes = [len(hashes[row.container_id]) for row in of_day]
        names = np.concatenate([hashes[row.container_id] for row in of_day])
        order = np.argsort(names, kind="stable")
        first = np.ones(len(names), dtype=bool)
        first[1:] = names[order][1:] != names[order][:-1]
        # Stable, and the newest came first: of equal names the first is in the newest container.
        needed = set(np.repeat(np.arange(len(of_day)), sizes)[order[first]].tolist())
        for at, row in enumerate(of_day):
            if sizes[at] and at not in needed:
                report.superseded.append(row.key)
            else:
                live.append(row)
    return sorted(live, key=lambda one: one.container_id)


async def _take_shards(
    catalog: Catalog,
    rows: list[ContainerRow],
    tombstones: list[Tombstone],
    shipped: set[int],
    holder: str,
) -> Callable[[Iterable[int] | None], ShardClaim]:
    """Take the lock of every shard, with epochs above those that objects were made under."""
    shards = shipped | {shard for row in rows for shard in _shards_of(row.run)}
    shards |= {one.shard for one in tombstones}
    highest: dict[int, int] = dict.fromkeys(shards, 0)
    for row in rows:
        for shard in _shards_of(row.run):
            highest[shard] = max(highest[shard], row.epoch)
    for one in tombstones:
        highest[one.shard] = max(highest[one.shard], one.epoch)
    locks: dict[int, ShardLock] = {}
    wanted = sorted(shards)
    while wanted:
        taken = await catalog.acquire_shards(wanted, holder=holder, ttl_s=LOCK_TTL_S)
        locks.update({lock.shard: lock for lock in taken})
        if len(taken) < len(wanted):
            await catalog.release_shards(
                ShardClaim(holder, [(one.shard, one.epoch) for one in locks.values()])
            )
            held = sorted(set(wanted) - {lock.shard for lock in taken})
            raise ShardsHeldError(
                f"shards {held[:8]} are held by a running node; stop it, or wait until its locks expire",
                shard_id=held[0],
            )
        wanted = [shard for shard in wanted if locks[shard].epoch <= highest[shard]]
        # A lock is free again after its release only: the epoch rises by one at each taking.
        await catalog.release_shards(ShardClaim(holder, [(shard, locks[shard].epoch) for shard in wanted]))

    def claim(shards: Iterable[int] | None) -> ShardClaim:
        of = sorted(locks) if shards is None else shards
        return ShardClaim(holder, [(shard, locks[shard].epoch) for shard in of])

    return claim


def _announcement(row: ContainerRow) -> ContainerRow:
    return replace(row, state=ContainerState.UPLOADING, etag="")
