"""The catalog in memory, for tests and simulations."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias
from uuid import UUID, uuid4

from des.clock import Clock
from des.db.catalog import ContainerRow, ContainerState, ShardClaim, ShardLock, ShardRun, ShardTotals
from des.db.rules import (
    KeyTakenError,
    check_announcement,
    check_cover,
    check_etag,
    check_holder,
    check_shards,
    fence,
    hash_range,
    settle_announcement,
    settle_commit,
    ttl_ms_of,
)
from des.db.schema import HASH_BITS

Moment: TypeAlias = Literal["before", "after"]
"""Before a method has any effect, or after its whole effect."""


class MemoryCatalog:
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
        self._store_id = str(make_id())
        self._locks: dict[int, ShardLock] = {}
        self._containers: dict[str, ContainerRow] = {}

    async def migrate(self) -> None:
        """Do nothing: there is no schema."""
        self._meet("migrate", "before")
        self._meet("migrate", "after")

    async def store_id(self) -> str:
        """See `Catalog.store_id`."""
        self._meet("store_id", "before")
        return self._store_id

    async def acquire_shards(
        self, shards: Sequence[int], *, holder: str, ttl_s: float, force: bool = False
    ) -> list[ShardLock]:
        """See `Catalog.acquire_shards`."""
        self._meet("acquire_shards", "before")
        check_holder(holder)
        expires_in_ms = ttl_ms_of(ttl_s)
        now = self._clock.now_ms()
        taken: list[ShardLock] = []
        for shard in check_shards(shards):
            found = self._locks.get(shard)
            if found is None or force or found.expires_ms <= now:
                epoch = 1 if found is None else found.epoch + 1
                taken.append(ShardLock(shard, holder, epoch, now, now, now + expires_in_ms))
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
        self._locks.update((lock.shard, replace(lock, holder="", expires_ms=0)) for lock in self._own(claim))
        self._meet("release_shards", "after")

    async def shard_locks(self) -> list[ShardLock]:
        """See `Catalog.shard_locks`."""
        self._meet("shard_locks", "before")
        return [self._locks[shard] for shard in sorted(self._locks)]

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
        assert found is not None
        check_cover(found.run, claim)
        if owed:
            found = replace(found, state=ContainerState.STORED, etag=etag, stored_ms=self._clock.now_ms())
            self._containers[container_id] = found
        self._meet("commit_container", "after")
        return found

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

    async def shard_totals(self) -> list[ShardTotals]:
        """See `Catalog.shard_totals`."""
        self._meet("shard_totals", "before")
        of_shard: defaultdict[int, list[ContainerRow]] = defaultdict(list)
        for row in self._containers.values():
            if row.state is ContainerState.STORED:
                of_shard[row.run.first].append(row)
        return [
            ShardTotals(
                shard=shard,
                containers=len(rows),
                files=sum(row.geometry.file_count for row in rows),
                data_bytes=sum(row.data_bytes for row in rows),
                last_stored_ms=max(row.stored_ms or 0 for row in rows),
            )
            for shard, rows in sorted(of_shard.items())
        ]

    async def close(self) -> None:
        """Do nothing: what was written stays for the next node."""

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
