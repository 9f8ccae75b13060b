"""Which files were deleted, as far as the read path has to know (DESIGN §6).

A name is deleted from the moment its DELETE record is on the device. The catalog's tombstones are loaded
by day and shard, once for all who ask; what this node deletes is added the moment it happens. Those of other
nodes' shards are soon too old to be told, so they are loaded for many neighbouring shards at once.
"""

from collections import ChainMap, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from des.clock import Clock, SystemClock
from des.core.single_flight import SingleFlight
from des.db.catalog import Catalog
from des.errors import AlreadyExistsError, NotFoundError
from des.naming import consistent_hash

BUCKETS_KEPT: Final = 50_000
"""(day, shard) pairs whose tombstones are remembered, the empty ones too."""
DAYS_KEPT: Final = 400
JOINED_BITS_MAX: Final = 8
"""Tombstones of up to `2**8` neighbouring shards of other nodes are loaded by one query."""
JOINED_NAMES: Final = 256
"""Names that such a query should bring: after more of them the next one of the day takes half as many shards,
after less than a quarter of them twice as many."""
LOADED_AT_ONCE: Final = 10_000
"""Rows of one query."""
NAMES_KEPT: Final = 1_000_000
"""Names in them all together, about 150 bytes each."""


class FileDeletedError(NotFoundError):
    """The file was deleted."""

    reason = "FILE_DELETED"


class NameDeletedError(AlreadyExistsError):
    """The name belonged to a file that was deleted; names are never given out twice."""

    reason = "NAME_CONFLICT"


def file_deleted(name: str, deleted_ms: int) -> FileDeletedError:
    """Return the error for a read of a deleted file."""
    return FileDeletedError(f"file {name!r} was deleted", name=name, delete_time=_time(deleted_ms))


def name_deleted(name: str, deleted_ms: int) -> NameDeletedError:
    """Return the error for a write under the name of a deleted file."""
    return NameDeletedError(
        f"file {name!r} was deleted, and a name is never used twice", name=name, delete_time=_time(deleted_ms)
    )


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True, eq=False)
class _Loading:
    """A question to the catalog that is not answered yet."""

    day: str
    shard: int | None
    """None for every shard."""
    bits: int
    joined: int
    """It asks for all shards that differ from `shard` in so many of the last bits only."""
    meanwhile: dict[str, int]
    """What it asks for and was settled since."""

    def wants(self, day: str, shard: int, bits: int) -> bool:
        return day == self.day and (
            self.shard is None or (bits == self.bits and shard >> self.joined == self.shard >> self.joined)
        )


class Tombstones:
    """When files were deleted, by name. One event loop owns it."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        owns: Callable[[int], bool] | None = None,
        cache_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        """Load from `catalog`.

        Args:
            catalog: has the tombstones.
            owns: whether this node alone deletes files of a shard; every shard where None.
            cache_s: how long tombstones of other nodes' shards are used before they are read again.
            clock: tells how old they are.
        """
        self._catalog = catalog
        self._owns = owns
        self._cache_s = cache_s
        self._clock = clock or SystemClock()
        self._loaded_at: dict[tuple[str, int, int] | str, float] = {}
        self._buckets: OrderedDict[tuple[str, int, int], dict[str, int]] = OrderedDict()
        self._names = 0
        self._flights: SingleFlight[dict[int, dict[str, int]]] = SingleFlight()
        self._day_flights: SingleFlight[dict[str, int]] = SingleFlight()
        self._joined: OrderedDict[tuple[str, int], int] = OrderedDict()
        """By day and shard bits: how many of a shard's last bits the next query leaves open."""
        self._days: OrderedDict[str, dict[str, int]] = OrderedDict()
        """All tombstones of a day, of those that were listed last."""
        self._loading: list[_Loading] = []
        self._forgotten = 0
        """How often shards changed hands: what was asked before is asked again."""
        self._fresh: dict[str, int] = {}

    def add(self, name: str, deleted_ms: int) -> None:
        """Hide a name at once: its DELETE record is on the device."""
        self._fresh[name] = deleted_ms

    def settle(self, names: Iterable[tuple[str, str, int, int, int]]) -> None:
        """Take over names (name, day, shard, bits, deleted_ms) that are in the catalog now."""
        for name, day, shard, bits, deleted_ms in names:
            bucket = self._buckets.get((day, shard, bits))
            if bucket is not None and name not in bucket:
                bucket[name] = deleted_ms
                self._names += 1
            if day in self._days:
                self._days[day].setdefault(name, deleted_ms)
            self._fresh.pop(name, None)
            for loading in self._loading:
                if loading.wants(day, shard, bits):
                    loading.meanwhile[name] = deleted_ms

    @property
    def fresh(self) -> Mapping[str, int]:
        """Names deleted by this node and perhaps not in the catalog yet; always up to date."""
        return self._fresh

    def known_in(self, day: str, shard: int, *, bits: int) -> Mapping[str, int] | None:
        """Return the names deleted of a shard and day, beside `fresh`; None where only the catalog knows."""
        key = (day, shard, bits)
        bucket = self._buckets.get(key)
        return None if bucket is None or self._is_old(key) else bucket

    def known(self, name: str, day: str, shard: int, *, bits: int) -> int | None:
        """Return when a name was deleted, 0 where it was not, None where only the catalog knows."""
        fresh = self._fresh.get(name)
        if fresh is not None:
            return fresh
        bucket = self.known_in(day, shard, bits=bits)
        return None if bucket is None else bucket.get(name, 0)

    def forget(self) -> None:
        """Read all tombstones anew: shards have changed hands."""
        self._forgotten += 1
        self._buckets.clear()
        self._days.clear()
        self._loaded_at.clear()
        self._names = 0

    def _is_old(self, key: tuple[str, int, int] | str, at: float | None = None) -> bool:
        """Whether what is remembered may not be told to who asked at a time; now, where None."""
        if self._owns is None or (not isinstance(key, str) and self._owns(key[1])):
            return False
        return (self._clock.monotonic() if at is None else at) - self._loaded_at[key] > self._cache_s

    async def deleted_ms(self, name: str, day: str, shard: int, *, bits: int) -> int:
        """Return when a name was deleted, UTC milliseconds since 1970; 0 where it was not.

        Raises:
            CatalogUnavailableError: the catalog did not answer; nothing is known.
        """
        known = self.known(name, day, shard, bits=bits)
        if known is not None:
            return known
        bucket = await self.of_shard(day, shard, bits=bits)
        return bucket.get(name, 0) or self._fresh.get(name, 0)

    async def of_shard(self, day: str, shard: int, *, bits: int) -> Mapping[str, int]:
        """Return the names deleted of a shard and day, beside `fresh`.

        Raises:
            CatalogUnavailableError: the catalog did not answer; nothing is known.
        """
        known = self.known_in(day, shard, bits=bits)
        if known is not None:
            return known
        key = (day, shard, bits)
        asked_at = self._clock.monotonic()
        while True:
            joined = self._joined_bits(key)
            first = (day, shard >> joined << joined, bits)
            loaded = await self._flights.run((first, joined), partial(self._load, first, joined))
            # A load that others began may be older than what this caller may be told.
            if key not in self._loaded_at or not self._is_old(key, asked_at):
                return loaded[shard]

    def _joined_bits(self, key: tuple[str, int, int]) -> int:
        """Return how many of a shard's last bits a query leaves open; 0 for own shards: asked for once."""
        day, shard, bits = key
        if self._owns is None or self._owns(shard):
            return 0
        return self._joined.get((day, bits), 0)

    async def of_day(self, day: str) -> Mapping[str, int]:
        """Return when each deleted file of a day was deleted.

        Raises:
            CatalogUnavailableError: the catalog did not answer; nothing is known.
        """
        found = self._days.get(day)
        asked_at = self._clock.monotonic()
        while found is None or (day in self._loaded_at and self._is_old(day, asked_at)):
            found = await self._day_flights.run(day, lambda: self._load_day(day))
        fresh = {name: ms for name, ms in self._fresh.items() if name[-26:-18] == day}
        return ChainMap(found, fresh) if fresh else found  # no copy: a day may have a million of them

    @contextmanager
    def _noting(
        self, day: str, shard: int | None = None, bits: int = 0, joined: int = 0
    ) -> Iterator[dict[str, int]]:
        """Note what is settled while the catalog is asked: its answer may be older.

        Asking again instead would not end while files are deleted all the time.
        """
        loading = _Loading(day, shard, bits, joined, {})
        self._loading.append(loading)
        try:
            yield loading.meanwhile
        finally:
            self._loading.remove(loading)

    async def _load_day(self, day: str) -> dict[str, int]:
        while True:
            before = self._forgotten
            asked_at = self._clock.monotonic()
            found: dict[str, int] = {}
            after = ""
            with self._noting(day) as meanwhile:
                while rows := await self._catalog.tombstones_of_day(day, after=after, limit=LOADED_AT_ONCE):
                    found.update((row.name, row.deleted_ms) for row in rows)
                    after = rows[-1].name
                found |= meanwhile
            if self._forgotten == before:
                break
        self._days[day] = found
        self._loaded_at[day] = asked_at
        while len(self._days) > 1 and (
            len(self._days) > DAYS_KEPT or sum(map(len, self._days.values())) > NAMES_KEPT
        ):
            del self._loaded_at[self._days.popitem(last=False)[0]]
        return found

    async def _load(self, key: tuple[str, int, int], joined: int) -> dict[int, dict[str, int]]:
        """Load what was deleted in `2**joined` shards, from that of `key` on; return it by shard."""
        day, first, bits = key
        while True:
            before = self._forgotten
            asked_at = self._clock.monotonic()
            with self._noting(day, first, bits, joined) as meanwhile:
                rows = await self._catalog.tombstones_of(day, first >> joined, bits=bits - joined)
                found = {row.name: row.deleted_ms for row in rows} | meanwhile
            if self._forgotten == before:
                break
        self._learn(key, joined, len(found))
        if not joined:
            loaded = {first: found}
        else:
            loaded = {shard: {} for shard in range(first, first + (1 << joined))}
            for name, deleted_ms in found.items():
                loaded[consistent_hash(name, bits)][name] = deleted_ms
        for shard, bucket in loaded.items():
            self._keep((day, shard, bits), bucket, asked_at)
        return loaded

    def _learn(self, key: tuple[str, int, int], joined: int, names: int) -> None:
        """Decide how many shards the next query of a day takes, by the names that this one brought."""
        day, shard, bits = key
        if self._owns is None or self._owns(shard):
            return
        if names > JOINED_NAMES:
            joined = max(joined - 1, 0)
        elif names * 4 < JOINED_NAMES:
            joined = min(joined + 1, bits, JOINED_BITS_MAX)
        self._joined[day, bits] = joined
        self._joined.move_to_end((day, bits))
        if len(self._joined) > DAYS_KEPT:
            self._joined.popitem(last=False)

    def _keep(self, key: tuple[str, int, int], bucket: dict[str, int], asked_at: float) -> None:
        self._names += len(bucket) - len(self._buckets.get(key, ()))
        self._buckets[key] = bucket
        self._loaded_at[key] = asked_at
        while len(self._buckets) > BUCKETS_KEPT or (self._names > NAMES_KEPT and len(self._buckets) > 1):
            old, forgotten = self._buckets.popitem(last=False)
            del self._loaded_at[old]
            self._names -= len(forgotten)
