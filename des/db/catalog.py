"""The door to the catalog: shard locks, containers, nodes. It has no row per file.

`SqlCatalog` is the real one (SQLite now, PostgreSQL from the same model), `des.testing.MemoryCatalog`
its twin; both pass `des.testing.CatalogSuite`. Every write of a shard's holder re-checks the
holder's epoch inside its own transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from des.errors import ConflictError, PreconditionError, UnavailableError


class CatalogUnavailableError(UnavailableError):
    """The database did not answer; the effect of a write is unknown; repeat it."""

    reason = "BACKEND_UNAVAILABLE"


class CatalogVersionError(PreconditionError):
    """The database was migrated by a newer version of DES."""


class FencedError(ConflictError):
    """The shard's lock has moved on to a higher epoch; this holder must stop writing for it."""

    reason = "NOT_SHARD_OWNER"


class ContainerState(StrEnum):
    """Where a container is in its life."""

    UPLOADING = "uploading"
    """Announced; its object may or may not exist."""
    STORED = "stored"
    """Its object was verified; the only state that readers use."""


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


@dataclass(frozen=True, slots=True)
class ShardClaim:
    """What a holder shows at each write: the epoch of each shard's lock it believes it holds."""

    holder: str
    epochs: Sequence[tuple[int, int]]
    """(shard, epoch) of every shard the write touches."""


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


@dataclass(frozen=True, slots=True)
class ShardTotals:
    """What a shard has in stored containers."""

    shard: int
    containers: int
    files: int
    data_bytes: int
    last_stored_ms: int | None


class Catalog(Protocol):
    """The metadata database. Every method is one transaction and may be repeated."""

    async def migrate(self) -> None:
        """Bring the schema to this version, from nothing or from any earlier one.

        Raises:
            CatalogVersionError: the database is newer than this code.
        """
        ...

    async def store_id(self) -> str:
        """Return the UUID of the store, made at the first call."""
        ...

    async def acquire_shards(
        self, shards: Sequence[int], *, holder: str, ttl_s: float, force: bool = False
    ) -> list[ShardLock]:
        """Take the locks that are free or expired, raising each epoch by one; return those taken.

        `force` takes them all: for an embedded store, whose directory lock already keeps others out.
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

    async def announce_container(self, row: ContainerRow, claim: ShardClaim) -> ContainerRow:
        """Insert `row` as uploading, or return the row with its id as it is if it is already there.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
        """
        ...

    async def commit_container(self, container_id: str, *, etag: str, claim: ShardClaim) -> ContainerRow:
        """Turn the row to stored and return it; a row already stored with this etag is returned as it is.

        Raises:
            FencedError: a shard's epoch is not the claim's; nothing was written.
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

    async def shard_totals(self) -> list[ShardTotals]:
        """Return what the stored containers hold, counted at the first shard of each run, by shard."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
