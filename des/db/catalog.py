"""The door to the catalog: shard locks, containers, tombstones, shipped log segments, nodes.

It has no row per file. `SqlCatalog` is the real one (SQLite and PostgreSQL from one model),
`des.testing.MemoryCatalog` its twin; both pass `des.testing.CatalogSuite`. Every write of a shard's
holder re-checks the holder's epoch inside its own transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from des.db.membership import Membership
from des.db.rows import LogSegmentId, LogSegmentRow, LogSegmentState, OpenContainer, Sighting, Tombstone
from des.errors import ConflictError, PreconditionError, UnavailableError


class CatalogUnavailableError(UnavailableError):
    """The database did not answer; the effect of a write is unknown; repeat it."""

    reason = "BACKEND_UNAVAILABLE"


class CatalogVersionError(PreconditionError):
    """The database has tables of a newer version of DES, or of an older one and may not be changed."""


class FencedError(ConflictError):
    """The shard's lock has moved on to a higher epoch; this holder must stop writing for it."""

    reason = "NOT_SHARD_OWNER"


class ContainerState(StrEnum):
    """Where a container is in its life, once it has a place; before, it is an `OpenContainer`."""

    UPLOADING = "uploading"
    """Announced; its object may or may not exist."""
    STORED = "stored"
    """Its object was verified; the only state that readers use."""
    RETIRED = "retired"
    """Replaced by another container, or emptied by deletes; readers that began before may still use it."""
    ABANDONED = "abandoned"
    """Announced and never to be committed; its object, if there is one, is nobody's."""


@dataclass(frozen=True, slots=True)
class ShardRun:
    """The aligned run of shards `[first, first + span)` of a store with `2**bits` shards."""

    first: int
    span: int
    """A power of two that divides `first`."""
    bits: int

    def __post_init__(self) -> None:
        if self.span < 1 or self.span & (self.span - 1) or self.first % self.span:
            raise ValueError(f"run of {self.span} shards from {self.first} is not aligned to a power of two")
        if not 0 <= self.first < self.first + self.span <= 1 << self.bits:
            raise ValueError(f"run [{self.first}, {self.first + self.span}) is outside 2**{self.bits} shards")

    def __contains__(self, shard: int) -> bool:
        return self.first <= shard < self.first + self.span

    def shards(self, bits: int) -> range:
        """Return the shards of `2**bits` that meet the run.

        >>> ShardRun(2, 2, 3).shards(4), ShardRun(2, 2, 3).shards(3), ShardRun(2, 2, 3).shards(1)
        (range(4, 8), range(2, 4), range(0, 1))
        """
        if bits >= self.bits:
            parts = 1 << bits - self.bits
            return range(self.first * parts, (self.first + self.span) * parts)
        shift = self.bits - bits
        return range(self.first >> shift, (self.first + self.span - 1 >> shift) + 1)


@dataclass(frozen=True, slots=True)
class ShardClaim:
    """What a holder shows at each write: the epoch of each shard's lock it believes it holds."""

    holder: str
    epochs: Sequence[tuple[int, int]]
    """(shard, epoch) of every shard the write touches."""
    bits: int | None = None
    """Shard bits that `epochs` count in; None for those of whatever the claim is shown for."""


@dataclass(frozen=True, slots=True)
class ContainerGeometry:
    """Where the sections of a container lie, in bytes from its start."""

    size: int
    data_start: int
    data_length: int
    meta_start: int
    meta_length: int
    index_start: int
    index_length: int
    file_count: int
    ext_table_start: int = 0
    """First byte of EXT's section table. This and what follows is 0 where names are found through INDEX."""
    pages_start: int = 0
    """First byte of HASHPAGES."""
    pages_length: int = 0
    page_count: int = 0
    """What page numbers are computed with (docs/format.md, section 14)."""


@dataclass(frozen=True, slots=True)
class ContainerRow:
    """One row of `des_containers`."""

    container_id: str
    """UUIDv7 in its usual text form."""
    day: str
    """UTC day, YYYYMMDD."""
    run: ShardRun
    key: str
    """Object key."""
    state: ContainerState
    epoch: int
    """Highest epoch among the shards when the row was made."""
    layout: str
    """"framed" or "v1"."""
    sha256: str
    """Of the whole object, lower-case hex."""
    geometry: ContainerGeometry
    name_ms_first: int
    """Lowest creation time among the names, UTC milliseconds since 1970."""
    name_ms_last: int
    data_bytes: int
    """Sum of the files' uncompressed sizes, external files included."""
    node: str
    """UUID of the node that made it."""
    etag: str = ""
    """Set once stored."""
    created_ms: int = 0
    """By the database's clock; set by the catalog."""
    stored_ms: int | None = None
    """By the database's clock; None while uploading."""
    replaces: tuple[str, ...] = ()
    """Ids of the containers that retire in the moment this one is stored."""
    retired_ms: int | None = None
    abandoned_ms: int | None = None
    removed_ms: int | None = None
    """When its object was known to be gone; only of a retired or abandoned one. The row stays."""
    name_first: str = ""
    """First of the names in their order. This and `name_last` are empty where they are not known: in rows
    of versions that did not keep them."""
    name_last: str = ""


@dataclass(frozen=True, slots=True)
class ShardLock:
    """One row of `des_shard_locks`."""

    shard: int
    holder: str
    """UUID of one process start."""
    epoch: int
    """Grows by one at every acquisition; rows are never deleted."""
    acquired_ms: int
    heartbeat_ms: int
    expires_ms: int
    node: str = ""
    """UUID of the holder's data folder; empty for one outside a cluster, and for a free lock."""


@dataclass(frozen=True, slots=True)
class ShardTotals:
    """What a shard has in stored containers."""

    shard: int
    containers: int
    files: int
    data_bytes: int
    last_stored_ms: int | None
    bits: int
    """Shard bits that `shard` counts in."""

    @staticmethod
    def merged(totals: "Iterable[ShardTotals]", *, bits: int) -> "dict[int, ShardTotals]":
        """Return totals by shard of `2**bits`, whatever bits the containers were made with."""
        found: dict[int, ShardTotals] = {}
        for one in totals:
            shift = one.bits - bits
            shard = one.shard >> shift if shift >= 0 else one.shard << -shift
            other = found.get(shard)
            found[shard] = ShardTotals(
                shard=shard,
                containers=one.containers + (other.containers if other else 0),
                files=one.files + (other.files if other else 0),
                data_bytes=one.data_bytes + (other.data_bytes if other else 0),
                last_stored_ms=max(one.last_stored_ms or 0, (other.last_stored_ms or 0) if other else 0),
                bits=bits,
            )
        return found


@dataclass(frozen=True, slots=True)
class DayTotals:
    """What a day has in stored containers."""

    day: str
    """UTC, YYYYMMDD."""
    containers: int
    files: int
    data_bytes: int


class Catalog(Membership, Protocol):
    """The metadata database. Every method is one transaction and may be repeated."""

    async def migrate(self) -> None:
        """Bring the schema to this version, from nothing or from any earlier one.

        Raises:
            CatalogVersionError: the database is newer than this code.
        """
        ...

    async def store_id(self, wanted: str | None = None) -> str:
        """Return the UUID of the store, made at the first call, or `wanted` taken for it then."""
        ...

    async def acquire_shards(
        self, shards: Sequence[int], *, holder: str, ttl_s: float, force: bool = False, node: str = ""
    ) -> list[ShardLock]:
        """Take the locks that are free or expired, raising each epoch by one; return those taken.

        `force` takes them all: for an embedded store, whose directory lock already keeps others out.
        A holder that names its `node` also takes the locks of earlier starts of it, which the directory
        lock proves dead; what it takes from another node that had not let go becomes an `Estate`.
        """
        ...

    async def renew_shards(self, claim: ShardClaim, *, ttl_s: float) -> list[ShardLock]:
        """Extend the locks that are still the claim's; return them."""
        ...

    async def release_shards(self, claim: ShardClaim) -> None:
        """Let go of the locks that are still the claim's; the rows and epochs stay."""
        ...

    async def shard_locks(self) -> list[ShardLock]:
        """Return every lock row, by shard."""
        ...

    async def checkpoint_open(self, rows: Sequence[OpenContainer], claim: ShardClaim) -> None:
        """Say what the shards of the claim have in no container; what was said of them before is forgotten.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
        """
        ...

    async def open_containers(self) -> list[OpenContainer]:
        """Return what was last said of every shard, by day and shard; the truth is in the holders' logs."""
        ...

    async def announce_container(self, row: ContainerRow, claim: ShardClaim) -> ContainerRow:
        """Insert `row` as uploading, or return the row with its id as it is if it is already there.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
        """
        ...

    async def commit_container(self, container_id: str, *, etag: str, claim: ShardClaim) -> ContainerRow:
        """Turn the row to stored and return it; a row already stored with this etag is returned as it is.

        What the row replaces retires in the same transaction: readers see one or the other, never both.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
            ContainerConflictError: it was abandoned, is stored with another etag, or one that it
                replaces is no longer stored.
        """
        ...

    async def abandon_container(self, container_id: str, claim: ShardClaim) -> ContainerRow:
        """Turn an uploading row to abandoned, so that nobody ever commits it; return it. Twice is once.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
            ContainerConflictError: it is stored.
            UnknownContainerError: it was never announced.
        """
        ...

    async def retire_containers(self, container_ids: Sequence[str], claim: ShardClaim) -> list[ContainerRow]:
        """Turn stored rows to retired, all or none; return them by id. Twice is once.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
            ContainerConflictError: one is not stored.
            UnknownContainerError: one was never announced.
        """
        ...

    async def remove_containers(self, container_ids: Sequence[str], claim: ShardClaim) -> list[ContainerRow]:
        """Record that the objects of retired or abandoned rows are gone; return the rows by id.

        The rows stay: the log of a node that was away may name such a container, and a row that is not
        there would read as a seal to be repeated.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
            ContainerConflictError: one is neither retired nor abandoned.
            UnknownContainerError: one was never announced.
        """
        ...

    async def container(self, container_id: str) -> ContainerRow | None:
        """Return one row, or None when there is none."""
        ...

    async def containers_of(self, day: str, shard: int, *, bits: int) -> list[ContainerRow]:
        """Return the stored containers of `day` whose run covers `shard` of `2**bits`, newest names first."""
        ...

    async def containers(
        self, *, state: ContainerState | None = None, day: str | None = None
    ) -> list[ContainerRow]:
        """Return rows by container id, all or of one state or day."""
        ...

    async def days(self) -> list[str]:
        """Return the days, sorted, that have a stored container or a tombstone."""
        ...

    async def shard_totals(self) -> list[ShardTotals]:
        """Return what the stored containers hold, counted at the first shard of each run, by shard."""
        ...

    async def day_totals(self, days_max: int) -> list[DayTotals]:
        """Return what the last `days_max` days with stored containers hold, by day."""
        ...

    async def put_tombstones(self, rows: Sequence[Tombstone], claim: ShardClaim) -> list[Tombstone]:
        """Insert tombstones, all or none; return them as they stand, in order. The first of a name stays.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
        """
        ...

    async def tombstone(self, name: str) -> Tombstone | None:
        """Return the tombstone of a name, or None when it was not deleted."""
        ...

    async def tombstones_of(self, day: str, shard: int, *, bits: int) -> list[Tombstone]:
        """Return the tombstones of `day` whose names lie in `shard` of `2**bits`, by name."""
        ...

    async def tombstones_of_day(self, day: str, *, after: str = "", limit: int = 1000) -> list[Tombstone]:
        """Return up to `limit` tombstones of a day, those behind the name `after`.

        In the order of their names' hashes, which costs no more for a day with a million of them.
        """
        ...

    async def tombstones(
        self, *, purged: bool | None = None, after: str = "", limit: int = 1000
    ) -> list[Tombstone]:
        """Return up to `limit` tombstones by name, those above `after`; purged or not, or all."""
        ...

    async def purge_tombstones(self, names: Sequence[str], claim: ShardClaim) -> None:
        """Record that no container holds the bytes of these deleted files any more. Twice is once.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
        """
        ...

    async def record_log_segment(self, row: LogSegmentRow, claim: ShardClaim) -> LogSegmentRow:
        """Insert a held segment, or return the row with its id as it is if it is already there.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
            LogSegmentConflictError: its id or key stands for another object.
        """
        ...

    async def log_segments(
        self, *, node: str | None = None, state: LogSegmentState | None = None
    ) -> list[LogSegmentRow]:
        """Return the segments by id, all or of one node or state."""
        ...

    async def release_log_segments(
        self, segments: Sequence[LogSegmentId], shards: Sequence[int], claim: ShardClaim
    ) -> list[LogSegmentRow]:
        """Say that the files of `shards` in these segments are in stored containers; return the rows by id.

        A segment that no shard needs any more is released. Segments that are not there are left out.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
        """
        ...

    async def drop_log_segments(self, segments: Sequence[LogSegmentId]) -> None:
        """Forget released segments, all or none, once their objects are gone. Twice is once.

        Raises:
            LogSegmentConflictError: one is still held.
        """
        ...

    async def see_unnamed(self, seen: Sequence[Sighting]) -> list[Sighting]:
        """Record the objects that a whole listing showed and no row names; return them with times, by key.

        What was seen before and is not among them is forgotten: it is gone, or was named since.
        """
        ...

    async def now_ms(self) -> int:
        """Return the database's time, UTC milliseconds since 1970."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
