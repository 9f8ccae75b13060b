"""What changed about shards, and since when: revisions that a watcher can go on from.

States are compared, not events kept: a watcher that comes back learns what each shard is now, however
much happened meanwhile, and nothing is ever too old but what another start of the node counted.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from des.clock import Clock
from des.core.single_flight import SingleFlight
from des.db.membership import NODE_IDS
from des.errors import OutOfRangeError
from des.node.shard_status import ShardStatus

LOOK_S: Final = 0.25
"""How often shards are looked at, at most, while somebody watches."""
REVISIONS_OF_A_NODE: Final = 1 << 32
"""Of one start; nodes that started equally often count in ranges of their own: each sees other changes."""
REVISIONS_OF_A_START: Final = NODE_IDS * REVISIONS_OF_A_NODE
"""So that the revisions of every start lie above those of the one before."""


class WatchRevisionError(OutOfRangeError):
    """The revision is another node's, or of another start of this one: begin with a snapshot."""

    reason = "WATCH_REVISION_COMPACTED"


@dataclass(frozen=True, slots=True)
class ShardNews:
    """One message to a watcher."""

    shards: "Sequence[ShardStatus]"
    """By number; empty as a sign of life."""
    revision: int
    snapshot: bool
    """All shards that are watched, not only those that changed."""


class ShardWatch:
    """Compares the shards of a node with what they were."""

    def __init__(
        self,
        look: "Callable[[], Awaitable[Sequence[ShardStatus]]]",
        *,
        boot_epoch: int,
        node_id: int,
        clock: Clock,
        heartbeat_s: float,
    ) -> None:
        """Begin to count.

        Args:
            look: returns every shard's state.
            boot_epoch: number of this start of the node.
            node_id: of this node, which no other of the store has.
            clock: time between looks.
            heartbeat_s: a watcher hears something at least this often.
        """
        self._look = look
        self._look_s = LOOK_S
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._first = max(1, boot_epoch) * REVISIONS_OF_A_START + node_id * REVISIONS_OF_A_NODE
        self.revision = self._first
        """Of the last change that was seen."""
        self._seen: dict[int, ShardStatus] = {}
        self._changed: dict[int, int] = {}
        """By shard: the revision that its last change made."""
        self._looked_at: float | None = None
        self._flights: SingleFlight[None] = SingleFlight()

    def widen(self, look: "Callable[[], Awaitable[Sequence[ShardStatus]]]", *, look_s: float) -> None:
        """Look in another way from now on, `look_s` apart: also at what other nodes say of their shards."""
        self._look, self._look_s = look, look_s

    async def look(self) -> int:
        """Look for changes, unless that was just done; return the revision.

        Raises:
            CatalogUnavailableError: what is stored is not known now.
        """
        now = self._clock.monotonic()
        if self._looked_at is None or now - self._looked_at >= self._look_s:
            await self._flights.run("look", self._compare)
        return self.revision

    async def _compare(self) -> None:
        statuses = await self._look()
        self._looked_at = self._clock.monotonic()
        first = not self._seen
        changed = [status for status in statuses if _essence(status) != self._seen.get(status.shard)]
        if changed and not first:
            self.revision += 1
        for status in changed:
            self._changed[status.shard] = self.revision
            self._seen[status.shard] = _essence(status)

    async def watch(
        self, shards: frozenset[int], *, start_revision: int, min_interval_s: float
    ) -> AsyncGenerator[ShardNews | None, None]:
        """Yield what happens to `shards` (none: all); None now and then, for the caller to look around.

        Raises:
            WatchRevisionError: `start_revision` is not from this start of the node.
            CatalogUnavailableError: what is stored is not known now.
        """
        await self.look()
        known = start_revision
        if start_revision and not self._first <= start_revision <= self.revision:
            raise WatchRevisionError(
                f"revision {start_revision} is not one of this server, whose first is {self._first} and "
                f"last {self.revision}",
                requested_revision=start_revision,
                oldest_revision=self._first,
            )
        if not start_revision:
            known = self.revision
            yield ShardNews(await self._current(shards), known, snapshot=True)
        told_at = self._clock.monotonic()
        while True:
            now = self._clock.monotonic()
            if now - told_at >= min_interval_s:
                revision = await self.look()
                changed = frozenset(
                    shard
                    for shard, of_change in self._changed.items()
                    if of_change > known and (not shards or shard in shards)
                )
                if changed:
                    yield ShardNews(await self._current(changed), revision, snapshot=False)
                    known, told_at = revision, now
                elif now - told_at >= self._heartbeat_s:
                    yield ShardNews([], revision, snapshot=False)
                    known, told_at = revision, now
            yield None
            await self._clock.sleep(LOOK_S)

    async def _current(self, shards: frozenset[int]) -> "Sequence[ShardStatus]":
        return [status for status in await self._look() if not shards or status.shard in shards]


def _essence(status: ShardStatus) -> ShardStatus:
    """Return a status without what changes by itself, as time goes by."""
    return replace(status, oldest_open_age_s=None, last_heartbeat_ms=0)
