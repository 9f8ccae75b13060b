"""What a node knows of the shards of its cluster: which are its own, for how long, and whose the others are.

It only answers; `ClusterLease` keeps it up to date.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from des.clock import Clock
from des.cluster.duties import IDLE
from des.cluster.errors import not_shard_owner
from des.cluster.lock_reading import LockReading
from des.cluster.name_time import name_ahead
from des.cluster.shards import comes_home
from des.cluster.share_plan import Member, plan_shares
from des.db.catalog import ShardClaim, ShardLock, ShardRun
from des.db.membership import ClusterView, Estate, NodeRow, NodeState, Sharding
from des.errors import DesError


class Standing:
    """A node's own locks, and the cluster as last seen."""

    def __init__(self, *, node: str, holder: str, sharding: Sharding, clock: Clock) -> None:
        """Know nothing yet.

        Args:
            node: UUID of the data folder.
            holder: UUID of this start.
            sharding: how the store is divided.
            clock: times this node's own view of its locks.
        """
        self.node = node
        self.holder = holder
        self._sharding = sharding
        self._clock = clock
        self.resharded = asyncio.Event()
        """Set when the store is divided otherwise than this node was opened for: it has to be opened anew."""
        self.duties = IDLE
        self.locks: dict[int, ShardLock] = {}
        """Own shards to their locks as last seen."""
        self._until: dict[int, float] = {}
        """Own shards to the monotonic time up to which nobody else can have them."""
        self._named_until_ms = 0
        """As last told to the catalog: files may have been acknowledged under names up to here."""
        self._serving: set[int] = set()
        """Own shards that are ready."""
        self.giving: set[int] = set()
        """Shards that are being handed over just now."""
        self.view = ClusterView(0, (), (), ())
        self._seen_at = clock.monotonic()
        self._blocked: dict[int, list[Estate]] = {}
        """Shards to what lost nodes alone may hold of them."""
        self.failure: DesError | None = None
        """Why this node can hold no shard any more; None while it can."""

    def lock_reading(self) -> LockReading:
        """Return how many shards are held, and how many of them somebody else may have by now."""
        now = self._clock.monotonic()
        return LockReading(len(self.locks), sum(self._until.get(shard, now) <= now for shard in self.locks))

    def owns(self, shard: int) -> bool:
        """See `Shards.owns`."""
        return shard in self._serving and self._clock.monotonic() < self._until[shard]

    def owns_any(self) -> bool:
        """See `Shards.owns_any`."""
        return any(self.owns(shard) for shard in self._serving)

    def owns_run(self, run: ShardRun) -> bool:
        """Whether this node serves every shard of a run, which may count in other bits than the store."""
        return all(shard in self._serving for shard in run.shards(self._sharding.bits))

    def may_seal(self, run: ShardRun) -> bool:
        """Whether a seal of these shards may begin: they are served here, and none is being given away."""
        return self.owns_run(run) and self.giving.isdisjoint(run.shards(self._sharding.bits))

    def holds(self, shard: int) -> bool:
        """Whether the shard is this node's, ready or not."""
        return shard in self.locks

    def tenure(self, shard: int) -> int | None:
        """Return the epoch in which this node serves a shard now; None where it does not."""
        return self.locks[shard].epoch if self.owns(shard) else None

    def is_gaining(self, shard: int) -> bool:
        """Whether the shard is this node's and not ready yet."""
        return shard in self.locks and shard not in self._serving

    def check_absence(self, shard: int, name_ms: int) -> None:
        """See `Shards.check_absence`."""
        if comes_home():
            return
        if not self.owns(shard):
            raise not_shard_owner(shard, self.describe_owner(shard))
        if self.duties.awaits_files(shard):
            raise not_shard_owner(shard, "may have this file among those that this node brings home just now")
        for estate in self._blocked.get(shard, ()):
            if name_ms <= estate.named_until_ms:
                raise not_shard_owner(
                    shard,
                    f"may have this file in the log of node {estate.node}, which is away",
                    owner=estate.node,
                    retry_after_s=1.0,
                )

    def check_named(self, shard: int, name_ms: int) -> None:
        """See `Shards.check_named`."""
        if (lock := self.locks.get(shard)) is None:
            raise not_shard_owner(shard, self.describe_owner(shard))
        # After the database's clock was set back, what the catalog was told is later than any lock's expiry.
        until_ms = max(lock.expires_ms, self._named_until_ms)
        if name_ms > until_ms:
            raise name_ahead(name_ms, until_ms)

    def claim(self, run: ShardRun) -> ShardClaim:
        """Return what a seal of these shards has to show.

        Raises:
            NotShardOwnerError: one of them is not this node's, or not ready: seals of an earlier tenure
                may still have to be given up.
        """
        shards = run.shards(self._sharding.bits)
        if not self.owns_run(run):
            shard = next(shard for shard in shards if shard not in self._serving)
            raise not_shard_owner(shard, self.describe_owner(shard))
        return self.claim_of(shards)

    def claim_of(self, shards: Iterable[int]) -> ShardClaim:
        """Return what a write for these shards has to show. Same error as `claim`."""
        epochs: list[tuple[int, int]] = []
        for shard in shards:
            lock = self.locks.get(shard)
            if lock is None:
                raise not_shard_owner(shard, self.describe_owner(shard))
            epochs.append((shard, lock.epoch))
        return ShardClaim(self.holder, epochs, self._sharding.bits)

    def owner(self, shard: int) -> NodeRow | None:
        """Return the node that holds a shard, as far as this node knows; None for nobody that lives."""
        now_ms = self.now_ms()
        lock = next((lock for lock in self._of(shard) if lock.holder and lock.expires_ms > now_ms), None)
        if lock is None:
            return None
        return next((node for node in self.view.nodes if node.holder == lock.holder), None)

    def marked(self, mark: str) -> NodeRow | None:
        """Return the node whose UUID begins with hexadecimal digits; None where none is known."""
        return next((node for node in self.view.nodes if node.node.replace("-", "").startswith(mark)), None)

    def lock(self, shard: int) -> ShardLock | None:
        """Return the lock of any shard, as last seen."""
        return self.locks.get(shard) or next(iter(self._of(shard)), None)

    def estates(self, shard: int) -> list[Estate]:
        """Return what lost nodes alone may hold of a shard."""
        return self._blocked.get(shard, [])

    def own_estates(self) -> list[Estate]:
        """Return what others took from this node; nothing where they count in other shards than it does."""
        if self.resharded.is_set():
            return []
        return [estate for estate in self.view.estates if estate.node == self.node]

    def members(self) -> list[NodeRow]:
        """Return the nodes that live and take shards."""
        now = replace(self.view, now_ms=self.now_ms())
        return [node for node in now.nodes if now.lives(node) and node.state is NodeState.ACTIVE]

    def planned(self) -> dict[int, str]:
        """Return who shall hold each shard, as things stand."""
        members = [Member(node.holder, node.capacity) for node in self.members()]
        now_ms = self.now_ms()
        held = {
            lock.shard: lock.holder for lock in self.view.locks if lock.holder and lock.expires_ms > now_ms
        }
        return plan_shares(1 << self._sharding.bits, members, held)

    def served(self) -> list[int]:
        """Return this node's own shards that are ready."""
        return sorted(self._serving)

    def doubt(self, shards: Iterable[int]) -> None:
        """Answer for shards no more before a heartbeat tells whose they are."""
        for shard in shards:
            self._until[shard] = 0.0

    def gave(self, locks: Iterable[ShardLock]) -> None:
        """Let go of shards of which the locks are now these."""
        given = list(locks)
        for lock in given:
            self._drop(lock.shard)
        self._see(given)

    def _drop(self, shard: int) -> None:
        self._serving.discard(shard)
        self.locks.pop(shard, None)
        self._until.pop(shard, None)

    def describe_owner(self, shard: int) -> str:
        """Say who has a shard."""
        if shard in self.locks:
            return "is being taken over by this node"
        owner = self.owner(shard)
        return "is owned by nobody that is there" if owner is None else f"is owned by node {owner.node}"

    def now_ms(self) -> int:
        """Return the database's time, as far as it is known here."""
        return self.view.now_ms + int((self._clock.monotonic() - self._seen_at) * 1000)

    def _of(self, shard: int) -> list[ShardLock]:
        locks = self.view.locks
        # The catalog gives them by shard; where all exist, a shard's number is its place.
        if shard < len(locks) and locks[shard].shard == shard:
            return [locks[shard]]
        return [lock for lock in locks if lock.shard == shard]

    def asked(self) -> Sharding | None:
        """Return what is asked for, due or not; None for nothing, and once it is done."""
        sharding = self.view.sharding
        if sharding is None or sharding.next_bits is None or self.resharded.is_set():
            return None
        return sharding

    def is_changing(self) -> bool:
        """Whether the store is due to be divided anew: all let go of their shards."""
        asked = self.asked()
        return asked is not None and asked.is_due(self.now_ms())

    def _see(self, locks: Iterable[ShardLock]) -> None:
        """Change the view where this node knows more than it last read."""
        changed = {lock.shard: lock for lock in locks}
        self.view = replace(self.view, locks=tuple(changed.get(lock.shard, lock) for lock in self.view.locks))
