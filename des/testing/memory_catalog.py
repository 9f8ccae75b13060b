"""The catalog in memory, for tests and simulations."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias
from uuid import UUID, uuid4

from des.clock import Clock
from des.db.catalog import (
    ContainerRow,
    ContainerState,
    DayTotals,
    ShardClaim,
    ShardLock,
    ShardRun,
    ShardTotals,
)
from des.db.rows import LogSegmentId, LogSegmentRow, LogSegmentState, OpenContainer, Sighting, Tombstone
from des.db.rules import (
    KeyTakenError,
    LogSegmentConflictError,
    check_announcement,
    check_claims,
    check_cover,
    check_droppable,
    check_etag,
    check_holder,
    check_open,
    check_segment,
    check_shards,
    fence,
    hash_range,
    known,
    leaves_estate,
    may_take,
    settle_abandon,
    settle_announcement,
    settle_commit,
    settle_remove,
    settle_retire,
    settle_segment,
    ttl_ms_of,
)
from des.db.schema import HASH_BITS
from des.naming import consistent_hash
from des.testing.memory_membership import MembershipTables, MemoryMembership, inherit

Moment: TypeAlias = Literal["before", "after"]
"""Before a method has any effect, or after its whole effect."""


class MemoryCatalog(MemoryMembership):
    """The twin of `SqlCatalog`. It outlives `close`, as a database does."""

    def __init__(
        self,
        clock: Clock,
        *,
        make_id: Callable[[], UUID] = uuid4,
        fault: Callable[[str, Moment], None] | None = None,
    ) -> None:
        """Make an empty catalog.

        Args:
            clock: the database's clock.
            make_id: gives the store its id.
            fault: called with each method's name and the moment; may raise `CatalogUnavailableError`,
                "after" standing for a reply that was lost.
        """
        self.fault = fault
        self._clock = clock
        self._make_id = make_id
        self._store_id = ""
        self._locks: dict[int, ShardLock] = {}
        self._containers: dict[str, ContainerRow] = {}
        self._open: dict[tuple[str, int], OpenContainer] = {}
        self._membership = MembershipTables()
        self._tombstones: dict[str, Tombstone] = {}
        self._segments: dict[LogSegmentId, LogSegmentRow] = {}
        self._sightings: dict[str, Sighting] = {}

    async def migrate(self) -> None:
        """Do nothing: there is no schema."""
        self._meet("migrate", "before")
        self._meet("migrate", "after")

    async def store_id(self, wanted: str | None = None) -> str:
        """See `Catalog.store_id`."""
        self._meet("store_id", "before")
        self._store_id = self._store_id or wanted or str(self._make_id())
        return self._store_id

    async def acquire_shards(
        self, shards: Sequence[int], *, holder: str, ttl_s: float, force: bool = False, node: str = ""
    ) -> list[ShardLock]:
        """See `Catalog.acquire_shards`."""
        self._meet("acquire_shards", "before")
        check_holder(holder)
        expires_in_ms = ttl_ms_of(ttl_s)
        now = self._clock.now_ms()
        taken: list[ShardLock] = []
        lost: list[ShardLock] = []
        for shard in check_shards(shards):
            found = self._locks.get(shard)
            if found is not None and not may_take(found, holder=holder, node=node, now_ms=now, force=force):
                continue
            epoch = 1 if found is None else found.epoch + 1
            taken.append(ShardLock(shard, holder, epoch, now, now, now + expires_in_ms, node))
            if found is not None and leaves_estate(found, node=node):
                lost.append(found)
        inherit(self._membership, lost, self._open.values(), now_ms=now)
        self._locks.update((lock.shard, lock) for lock in taken)
        self._meet("acquire_shards", "after")
        return taken

    async def renew_shards(self, claim: ShardClaim, *, ttl_s: float) -> list[ShardLock]:
        """See `Catalog.renew_shards`."""
        self._meet("renew_shards", "before")
        now, expires_in_ms = self._clock.now_ms(), ttl_ms_of(ttl_s)
        renewed = [
            replace(lock, heartbeat_ms=now, expires_ms=now + expires_in_ms) for lock in self._own(claim)
        ]
        self._locks.update((lock.shard, lock) for lock in renewed)
        self._meet("renew_shards", "after")
        return renewed

    async def release_shards(self, claim: ShardClaim) -> None:
        """See `Catalog.release_shards`."""
        self._meet("release_shards", "before")
        self._locks.update(
            (lock.shard, replace(lock, holder="", node="", expires_ms=0)) for lock in self._own(claim)
        )
        self._meet("release_shards", "after")

    async def shard_locks(self) -> list[ShardLock]:
        """See `Catalog.shard_locks`."""
        self._meet("shard_locks", "before")
        return [self._locks[shard] for shard in sorted(self._locks)]

    async def checkpoint_open(self, rows: Sequence[OpenContainer], claim: ShardClaim) -> None:
        """See `Catalog.checkpoint_open`."""
        self._meet("checkpoint_open", "before")
        check_open(rows, claim)
        fence(claim, self._locks.values())
        epochs, now = dict(claim.epochs), self._clock.now_ms()
        self._open = {key: row for key, row in self._open.items() if row.shard not in epochs}
        for row in rows:
            self._open[row.day, row.shard] = replace(row, epoch=epochs[row.shard], told_ms=now)
        self._meet("checkpoint_open", "after")

    async def open_containers(self) -> list[OpenContainer]:
        """See `Catalog.open_containers`."""
        self._meet("open_containers", "before")
        return [row for _, row in sorted(self._open.items())]

    async def announce_container(self, row: ContainerRow, claim: ShardClaim) -> ContainerRow:
        """See `Catalog.announce_container`."""
        self._meet("announce_container", "before")
        check_announcement(row, claim)
        fence(claim, self._locks.values())
        hash_range(row.run, bits=HASH_BITS)
        found = self._containers.get(row.container_id)
        if found is None:
            if any(row.key == other.key for other in self._containers.values()):
                raise KeyTakenError(
                    f"object key {row.key!r} is another container's, not {row.container_id}'s"
                )
            found = replace(row, created_ms=self._clock.now_ms(), stored_ms=None)
            self._containers[row.container_id] = found
        settled = settle_announcement(found, row)
        self._meet("announce_container", "after")
        return settled

    async def commit_container(self, container_id: str, *, etag: str, claim: ShardClaim) -> ContainerRow:
        """See `Catalog.commit_container`."""
        self._meet("commit_container", "before")
        check_etag(etag)
        fence(claim, self._locks.values())
        found = self._containers.get(container_id)
        owed = settle_commit(found, container_id=container_id, etag=etag)
        found = known(found, container_id)
        check_cover(found.run, claim)
        if owed:
            now = self._clock.now_ms()
            retired = [self._retired(each, claim, now) for each in found.replaces]
            found = replace(found, state=ContainerState.STORED, etag=etag, stored_ms=now)
            self._containers.update((row.container_id, row) for row in [found, *retired])
        self._meet("commit_container", "after")
        return found

    async def abandon_container(self, container_id: str, claim: ShardClaim) -> ContainerRow:
        """See `Catalog.abandon_container`."""
        self._meet("abandon_container", "before")
        fence(claim, self._locks.values())
        found = self._containers.get(container_id)
        owed = settle_abandon(found, container_id=container_id)
        found = known(found, container_id)
        check_cover(found.run, claim)
        if owed:
            found = replace(found, state=ContainerState.ABANDONED, abandoned_ms=self._clock.now_ms())
            self._containers[container_id] = found
        self._meet("abandon_container", "after")
        return found

    async def retire_containers(self, container_ids: Sequence[str], claim: ShardClaim) -> list[ContainerRow]:
        """See `Catalog.retire_containers`."""
        self._meet("retire_containers", "before")
        fence(claim, self._locks.values())
        now = self._clock.now_ms()
        rows = [self._retired(container_id, claim, now) for container_id in sorted(set(container_ids))]
        self._containers.update((row.container_id, row) for row in rows)
        self._meet("retire_containers", "after")
        return rows

    async def remove_containers(self, container_ids: Sequence[str], claim: ShardClaim) -> list[ContainerRow]:
        """See `Catalog.remove_containers`."""
        self._meet("remove_containers", "before")
        fence(claim, self._locks.values())
        rows = []
        for container_id in sorted(set(container_ids)):
            found = self._containers.get(container_id)
            owed = settle_remove(found, container_id=container_id)
            found = known(found, container_id)
            check_cover(found.run, claim)
            rows.append(replace(found, removed_ms=self._clock.now_ms()) if owed else found)
        self._containers.update((row.container_id, row) for row in rows)
        self._meet("remove_containers", "after")
        return rows

    async def container(self, container_id: str) -> ContainerRow | None:
        """See `Catalog.container`."""
        self._meet("container", "before")
        return self._containers.get(container_id)

    async def containers_of(self, day: str, shard: int, *, bits: int) -> list[ContainerRow]:
        """See `Catalog.containers_of`."""
        self._meet("containers_of", "before")
        first, stop = hash_range(ShardRun(first=shard, span=1, bits=bits), bits=HASH_BITS)
        found = []
        for row in self._containers.values():
            row_first, row_stop = hash_range(row.run, bits=HASH_BITS)
            if (
                row.day == day
                and row.state is ContainerState.STORED
                and row_first < stop
                and first < row_stop
            ):
                found.append(row)
        return sorted(found, key=lambda row: (row.name_ms_last, row.container_id), reverse=True)

    async def containers(
        self, *, state: ContainerState | None = None, day: str | None = None
    ) -> list[ContainerRow]:
        """See `Catalog.containers`."""
        self._meet("containers", "before")
        rows = [
            row
            for row in self._containers.values()
            if (state is None or row.state is state) and (day is None or row.day == day)
        ]
        return sorted(rows, key=lambda row: row.container_id)

    async def days(self) -> list[str]:
        """See `Catalog.days`."""
        self._meet("days", "before")
        stored = {row.day for row in self._containers.values() if row.state is ContainerState.STORED}
        return sorted(stored | {row.day for row in self._tombstones.values()})

    async def shard_totals(self) -> list[ShardTotals]:
        """See `Catalog.shard_totals`."""
        self._meet("shard_totals", "before")
        of_shard: defaultdict[tuple[int, int], list[ContainerRow]] = defaultdict(list)
        for row in self._containers.values():
            if row.state is ContainerState.STORED:
                of_shard[row.run.first, row.run.bits].append(row)
        return [
            ShardTotals(
                shard=shard,
                containers=len(rows),
                files=sum(row.geometry.file_count for row in rows),
                data_bytes=sum(row.data_bytes for row in rows),
                last_stored_ms=max(row.stored_ms or 0 for row in rows),
                bits=bits,
            )
            for (shard, bits), rows in sorted(of_shard.items())
        ]

    async def day_totals(self, days_max: int) -> list[DayTotals]:
        """See `Catalog.day_totals`."""
        self._meet("day_totals", "before")
        of_day: defaultdict[str, list[ContainerRow]] = defaultdict(list)
        for row in self._containers.values():
            if row.state is ContainerState.STORED:
                of_day[row.day].append(row)
        return [
            DayTotals(
                day,
                len(rows),
                sum(row.geometry.file_count for row in rows),
                sum(row.data_bytes for row in rows),
            )
            for day, rows in sorted(of_day.items())[-days_max:]
        ]

    async def put_tombstones(self, rows: Sequence[Tombstone], claim: ShardClaim) -> list[Tombstone]:
        """See `Catalog.put_tombstones`."""
        self._meet("put_tombstones", "before")
        check_claims((row.shard for row in rows), claim)
        fence(claim, self._locks.values())
        now = self._clock.now_ms()
        for row in rows:
            self._tombstones.setdefault(row.name, replace(row, deleted_ms=now, purged_ms=None))
        self._meet("put_tombstones", "after")
        return [self._tombstones[row.name] for row in rows]

    async def tombstone(self, name: str) -> Tombstone | None:
        """See `Catalog.tombstone`."""
        self._meet("tombstone", "before")
        return self._tombstones.get(name)

    async def tombstones_of(self, day: str, shard: int, *, bits: int) -> list[Tombstone]:
        """See `Catalog.tombstones_of`."""
        self._meet("tombstones_of", "before")
        first, stop = hash_range(ShardRun(first=shard, span=1, bits=bits), bits=HASH_BITS)
        return [
            row
            for name, row in sorted(self._tombstones.items())
            if row.day == day and first <= consistent_hash(name, HASH_BITS) < stop
        ]

    async def tombstones_of_day(self, day: str, *, after: str = "", limit: int = 1000) -> list[Tombstone]:
        """See `Catalog.tombstones_of_day`."""
        self._meet("tombstones_of_day", "before")
        rows = sorted(
            (consistent_hash(name, HASH_BITS), name)
            for name, row in self._tombstones.items()
            if row.day == day
        )
        behind = (consistent_hash(after, HASH_BITS), after) if after else (-1, "")
        return [self._tombstones[name] for hashed, name in rows if (hashed, name) > behind][:limit]

    async def tombstones(
        self, *, purged: bool | None = None, after: str = "", limit: int = 1000
    ) -> list[Tombstone]:
        """See `Catalog.tombstones`."""
        self._meet("tombstones", "before")
        rows = [
            row
            for name, row in sorted(self._tombstones.items())
            if name > after and (purged is None or (row.purged_ms is not None) is purged)
        ]
        return rows[:limit]

    async def purge_tombstones(self, names: Sequence[str], claim: ShardClaim) -> None:
        """See `Catalog.purge_tombstones`."""
        self._meet("purge_tombstones", "before")
        fence(claim, self._locks.values())
        for name in names:
            row = self._tombstones.get(name)
            if row is not None and row.purged_ms is None:
                self._tombstones[name] = replace(row, purged_ms=self._clock.now_ms())
        self._meet("purge_tombstones", "after")

    async def record_log_segment(self, row: LogSegmentRow, claim: ShardClaim) -> LogSegmentRow:
        """See `Catalog.record_log_segment`."""
        self._meet("record_log_segment", "before")
        check_segment(row, claim)
        fence(claim, self._locks.values())
        found = self._segments.get(row.id)
        if found is None:
            if any(row.key == other.key for other in self._segments.values()):
                raise LogSegmentConflictError(f"object key {row.key!r} is another log segment's")
            found = replace(row, created_ms=self._clock.now_ms(), released_ms=None)
            self._segments[row.id] = found
        settled = settle_segment(found, row)
        self._meet("record_log_segment", "after")
        return settled

    async def log_segments(
        self, *, node: str | None = None, state: LogSegmentState | None = None
    ) -> list[LogSegmentRow]:
        """See `Catalog.log_segments`."""
        self._meet("log_segments", "before")
        return [
            row
            for _, row in sorted(self._segments.items())
            if (node is None or row.id.node == node) and (state is None or row.state is state)
        ]

    async def release_log_segments(
        self, segments: Sequence[LogSegmentId], shards: Sequence[int], claim: ShardClaim
    ) -> list[LogSegmentRow]:
        """See `Catalog.release_log_segments`."""
        self._meet("release_log_segments", "before")
        check_claims(shards, claim)
        fence(claim, self._locks.values())
        rows = []
        for segment in sorted(set(segments)):
            row = self._segments.get(segment)
            if row is None:
                continue
            left = tuple(shard for shard in row.shards if shard not in set(shards))
            if row.shards and not left:
                row = replace(row, state=LogSegmentState.RELEASED, released_ms=self._clock.now_ms())
            self._segments[segment] = replace(row, shards=left)
            rows.append(self._segments[segment])
        self._meet("release_log_segments", "after")
        return rows

    async def drop_log_segments(self, segments: Sequence[LogSegmentId]) -> None:
        """See `Catalog.drop_log_segments`."""
        self._meet("drop_log_segments", "before")
        check_droppable([self._segments[each] for each in sorted(set(segments)) if each in self._segments])
        for segment in segments:
            self._segments.pop(segment, None)
        self._meet("drop_log_segments", "after")

    async def see_unnamed(self, seen: Sequence[Sighting]) -> list[Sighting]:
        """See `Catalog.see_unnamed`."""
        self._meet("see_unnamed", "before")
        now = self._clock.now_ms()
        before = self._sightings
        self._sightings = {}
        for one in seen:
            known_one = before.get(one.key)
            same = known_one is not None and known_one.etag == one.etag
            first = known_one.first_ms if known_one is not None and same else now
            self._sightings[one.key] = replace(one, first_ms=first, last_ms=now)
        self._meet("see_unnamed", "after")
        return [self._sightings[key] for key in sorted(self._sightings)]

    async def now_ms(self) -> int:
        """See `Catalog.now_ms`."""
        self._meet("now_ms", "before")
        return self._clock.now_ms()

    async def close(self) -> None:
        """Do nothing: what was written stays for the next node."""

    def _retired(self, container_id: str, claim: ShardClaim, now: int) -> ContainerRow:
        """Return the row as it is when retired."""
        found = self._containers.get(container_id)
        owed = settle_retire(found, container_id=container_id)
        found = known(found, container_id)
        check_cover(found.run, claim)
        return replace(found, state=ContainerState.RETIRED, retired_ms=now) if owed else found

    def _own(self, claim: ShardClaim) -> list[ShardLock]:
        """Return the locks that are still the claim's, by shard."""
        own = []
        for shard, epoch in sorted(claim.epochs):
            lock = self._locks.get(shard)
            if lock is not None and (lock.holder, lock.epoch) == (claim.holder, epoch):
                own.append(lock)
        return own

    def _meet(self, method: str, moment: Moment) -> None:
        if self.fault is not None:
            self.fault(method, moment)
