"""The catalog in a SQL database."""

from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db import containers, estates, log_segments, shard_locks, sightings, tombstones
from des.db.catalog import (
    ContainerRow,
    ContainerState,
    DayTotals,
    ShardClaim,
    ShardLock,
    ShardRun,
    ShardTotals,
)
from des.db.connector import DesDbConnector
from des.db.migration import upgrade
from des.db.rows import LogSegmentId, LogSegmentRow, LogSegmentState, OpenContainer, Sighting, Tombstone
from des.db.rules import check_etag, check_holder, ttl_ms_of
from des.db.schema import stores
from des.db.sql_membership import SqlMembership
from des.db.statements import insert_if_absent, now_ms


class SqlCatalog(SqlMembership):
    """The real `Catalog`. It owns its connector; `close` closes both."""

    def __init__(self, connector: DesDbConnector, *, make_id: Callable[[], UUID] = uuid4) -> None:
        self._connector = connector
        self._make_id = make_id
        self._store_id = ""

    async def migrate(self) -> None:
        """See `Catalog.migrate`."""
        await self._connector.write(lambda connection: connection.run_sync(upgrade))

    async def store_id(self, wanted: str | None = None) -> str:
        """See `Catalog.store_id`."""
        if not self._store_id:
            self._store_id = await self._connector.write(
                lambda connection: self._find_or_make_store(connection, wanted)
            )
        return self._store_id

    async def acquire_shards(
        self, shards: Sequence[int], *, holder: str, ttl_s: float, force: bool = False, node: str = ""
    ) -> list[ShardLock]:
        """See `Catalog.acquire_shards`."""
        check_holder(holder)
        ttl_ms = ttl_ms_of(ttl_s)

        async def work(connection: AsyncConnection) -> list[ShardLock]:
            taken, lost = await shard_locks.acquire(
                connection, shards, holder=holder, ttl_ms=ttl_ms, force=force, node=node
            )
            await estates.inherit(connection, lost)
            return taken

        # Locks taken by a call whose reply was lost would look like somebody else's.
        return await self._connector.write(work, repeatable=False)

    async def renew_shards(self, claim: ShardClaim, *, ttl_s: float) -> list[ShardLock]:
        """See `Catalog.renew_shards`."""
        ttl_ms = ttl_ms_of(ttl_s)
        return await self._connector.write(
            lambda connection: shard_locks.renew(connection, claim, ttl_ms=ttl_ms)
        )

    async def release_shards(self, claim: ShardClaim) -> None:
        """See `Catalog.release_shards`."""
        await self._connector.write(lambda connection: shard_locks.release(connection, claim))

    async def shard_locks(self) -> list[ShardLock]:
        """See `Catalog.shard_locks`."""
        return await self._connector.read(shard_locks.every)

    async def checkpoint_open(self, rows: Sequence[OpenContainer], claim: ShardClaim) -> None:
        """See `Catalog.checkpoint_open`."""
        await self._connector.write(lambda connection: containers.checkpoint(connection, rows, claim))

    async def open_containers(self) -> list[OpenContainer]:
        """See `Catalog.open_containers`."""
        return await self._connector.read(containers.opened)

    async def announce_container(self, row: ContainerRow, claim: ShardClaim) -> ContainerRow:
        """See `Catalog.announce_container`; refuses an id or a key that stands for another object."""
        return await self._connector.write(lambda connection: containers.announce(connection, row, claim))

    async def commit_container(self, container_id: str, *, etag: str, claim: ShardClaim) -> ContainerRow:
        """See `Catalog.commit_container`; refuses another etag than the one stored."""
        check_etag(etag)
        return await self._connector.write(
            lambda connection: containers.commit(connection, container_id, etag=etag, claim=claim)
        )

    async def abandon_container(self, container_id: str, claim: ShardClaim) -> ContainerRow:
        """See `Catalog.abandon_container`."""
        return await self._connector.write(
            lambda connection: containers.abandon(connection, container_id, claim)
        )

    async def retire_containers(self, container_ids: Sequence[str], claim: ShardClaim) -> list[ContainerRow]:
        """See `Catalog.retire_containers`."""
        return await self._connector.write(
            lambda connection: containers.retire(connection, container_ids, claim)
        )

    async def remove_containers(self, container_ids: Sequence[str], claim: ShardClaim) -> list[ContainerRow]:
        """See `Catalog.remove_containers`."""
        return await self._connector.write(
            lambda connection: containers.remove(connection, container_ids, claim)
        )

    async def container(self, container_id: str) -> ContainerRow | None:
        """See `Catalog.container`."""
        return await self._connector.read(lambda connection: containers.one(connection, container_id))

    async def containers_of(self, day: str, shard: int, *, bits: int) -> list[ContainerRow]:
        """See `Catalog.containers_of`; rows of more bits that cover a part of the shard are among them."""
        run = ShardRun(first=shard, span=1, bits=bits)
        return await self._connector.read(lambda connection: containers.covering(connection, day, run))

    async def containers(
        self, *, state: ContainerState | None = None, day: str | None = None
    ) -> list[ContainerRow]:
        """See `Catalog.containers`."""
        return await self._connector.read(
            lambda connection: containers.every(connection, state=state, day=day)
        )

    async def days(self) -> list[str]:
        """See `Catalog.days`."""
        return await self._connector.read(containers.days)

    async def shard_totals(self) -> list[ShardTotals]:
        """See `Catalog.shard_totals`."""
        return await self._connector.read(containers.totals)

    async def day_totals(self, days_max: int) -> list[DayTotals]:
        """See `Catalog.day_totals`."""
        return await self._connector.read(lambda connection: containers.day_totals(connection, days_max))

    async def put_tombstones(self, rows: Sequence[Tombstone], claim: ShardClaim) -> list[Tombstone]:
        """See `Catalog.put_tombstones`."""
        return await self._connector.write(lambda connection: tombstones.put(connection, rows, claim))

    async def tombstone(self, name: str) -> Tombstone | None:
        """See `Catalog.tombstone`."""
        return await self._connector.read(lambda connection: tombstones.one(connection, name))

    async def tombstones_of(self, day: str, shard: int, *, bits: int) -> list[Tombstone]:
        """See `Catalog.tombstones_of`."""
        run = ShardRun(first=shard, span=1, bits=bits)
        return await self._connector.read(lambda connection: tombstones.within(connection, day, run))

    async def tombstones_of_day(self, day: str, *, after: str = "", limit: int = 1000) -> list[Tombstone]:
        """See `Catalog.tombstones_of_day`."""
        return await self._connector.read(
            lambda connection: tombstones.of_day(connection, day, after=after, limit=limit)
        )

    async def tombstones(
        self, *, purged: bool | None = None, after: str = "", limit: int = 1000
    ) -> list[Tombstone]:
        """See `Catalog.tombstones`."""
        return await self._connector.read(
            lambda connection: tombstones.page(connection, purged=purged, after=after, limit=limit)
        )

    async def purge_tombstones(self, names: Sequence[str], claim: ShardClaim) -> None:
        """See `Catalog.purge_tombstones`."""
        await self._connector.write(lambda connection: tombstones.purge(connection, names, claim))

    async def record_log_segment(self, row: LogSegmentRow, claim: ShardClaim) -> LogSegmentRow:
        """See `Catalog.record_log_segment`."""
        return await self._connector.write(lambda connection: log_segments.record(connection, row, claim))

    async def log_segments(
        self, *, node: str | None = None, state: LogSegmentState | None = None
    ) -> list[LogSegmentRow]:
        """See `Catalog.log_segments`."""
        return await self._connector.read(
            lambda connection: log_segments.every(connection, node=node, state=state)
        )

    async def release_log_segments(
        self, segments: Sequence[LogSegmentId], shards: Sequence[int], claim: ShardClaim
    ) -> list[LogSegmentRow]:
        """See `Catalog.release_log_segments`."""
        return await self._connector.write(
            lambda connection: log_segments.release(connection, segments, shards, claim)
        )

    async def drop_log_segments(self, segments: Sequence[LogSegmentId]) -> None:
        """See `Catalog.drop_log_segments`."""
        await self._connector.write(lambda connection: log_segments.drop(connection, segments))

    async def see_unnamed(self, seen: Sequence[Sighting]) -> list[Sighting]:
        """See `Catalog.see_unnamed`."""
        return await self._connector.write(lambda connection: sightings.see(connection, seen))

    async def now_ms(self) -> int:
        """See `Catalog.now_ms`."""
        return await self._connector.read(now_ms)

    async def close(self) -> None:
        """Give connections back."""
        await self._connector.close()

    async def _find_or_make_store(self, connection: AsyncConnection, wanted: str | None) -> str:
        made = {
            "singleton": 1,
            "store_id": wanted or str(self._make_id()),
            "created_at": await now_ms(connection),
        }
        await insert_if_absent(connection, stores, [made])
        return str((await connection.execute(select(stores.c.store_id))).scalar_one())
