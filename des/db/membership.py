"""What the catalog knows of the nodes of a cluster: who lives, who may name files, what the dead left.

Every time is the database's. A node is one data folder (its UUID); a holder is one start of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, Self

from des.errors import ConflictError, ExhaustedError, PreconditionError

if TYPE_CHECKING:
    from des.db.catalog import ShardClaim, ShardLock

NODE_IDS: Final = 256
"""Node ids that a name has room for."""


class NodeReplacedError(ConflictError):
    """A later start of the same data folder has taken this node's place; this process must stop."""

    reason = "NOT_SHARD_OWNER"


class NodeIdsExhaustedError(ExhaustedError):
    """Every node id was used too short a time ago to be given to another data folder."""


class NoShardingError(PreconditionError):
    """No node has said yet into how many shards the store is divided."""


class NodeState(StrEnum):
    """Where a node is in its life."""

    JOINING = "joining"
    """Recovers its log; takes no shards yet."""
    ACTIVE = "active"
    DRAINING = "draining"
    """Hands its shards over; gets no new ones."""
    GONE = "gone"
    """Left in order."""


@dataclass(frozen=True, slots=True)
class NodeBeat:
    """What a node says of itself at each heartbeat."""

    node: str
    """UUID of its data folder."""
    holder: str
    """UUID of this start."""
    boot_epoch: int
    """Number of this start."""
    address: str
    """`host:port` at which other nodes reach it; empty while it listens nowhere."""
    version: str
    capacity: int
    """Its share of the shards, relative to the other nodes'."""
    state: NodeState
    local_files: bool
    """Whether it may hold files whose bytes lie nowhere else."""
    name_floor_ms: int
    """No name that its node id gave so far carries a later time, UTC milliseconds since 1970."""
    named_until_ms: int | None = None
    """No file that it has acknowledged has a name later than this, and none will have one later than this and
    the expiry of its shard's lock; None where the node does not see to that."""

    @classmethod
    def joining(
        cls, *, node: str, holder: str, boot_epoch: int, version: str, capacity: int, local_files: bool
    ) -> Self:
        """Return what a process says that was just started: it is reached nowhere, and takes no shards."""
        return cls(
            node=node,
            holder=holder,
            boot_epoch=boot_epoch,
            address="",
            version=version,
            capacity=capacity,
            state=NodeState.JOINING,
            local_files=local_files,
            name_floor_ms=0,
        )


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One row of `des_nodes`."""

    node: str
    holder: str
    boot_epoch: int
    address: str
    version: str
    capacity: int
    state: NodeState
    local_files: bool
    started_ms: int
    heartbeat_ms: int
    expires_ms: int
    named_until_ms: int | None = None
    """As this start said; None for versions that say nothing about it."""


@dataclass(frozen=True, slots=True)
class NameLease:
    """A node id for names, and where its names go on."""

    node_id: int
    """0 to 255."""
    floor_ms: int
    """No name with this id carries a later time; 0 for an id that was never used."""


@dataclass(frozen=True, slots=True)
class Estate:
    """What a node may still hold of a shard that others took from it without its help."""

    shard: int
    node: str
    epoch: int
    """Of the lock that it lost."""
    local_files: bool
    """Whether it may hold files whose bytes lie nowhere else."""
    taken_ms: int
    """When the lock was taken from it."""
    named_until_ms: int
    """No file of the shard that it acknowledged has a later name."""
    settled_seq: int
    """Records of the shard below this sequence number of the node's log are void: others have them."""
    owed: bool
    """Whether anything from `settled_seq` on may be missing elsewhere."""
    open_files: int = 0
    """How many files of the shard the node had in no container, as it last told the catalog."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """How many shards a store has, and how many it shall have."""

    bits: int
    """The store has `2**bits` shards."""
    generation: int
    """How often that has changed."""
    next_bits: int | None = None
    """Asked for, and not done yet; None while nothing is."""
    next_ms: int = 0
    """When the change is due, by the database's clock."""

    def is_due(self, now_ms: int) -> bool:
        """Whether nodes should let go of their shards, so that the store can be divided anew."""
        return self.next_bits is not None and self.next_ms <= now_ms


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster at one moment."""

    now_ms: int
    nodes: "tuple[NodeRow, ...]"
    """By UUID."""
    locks: "tuple[ShardLock, ...]"
    """By shard."""
    estates: tuple[Estate, ...]
    """By shard and node."""
    sharding: Sharding | None = None
    """None before the first node of the store has said it."""

    def lives(self, node: NodeRow) -> bool:
        """Whether the node's heartbeat is recent enough."""
        return node.state is not NodeState.GONE and node.expires_ms > self.now_ms


class Membership(Protocol):
    """The part of the catalog that nodes of a cluster need of each other."""

    async def register_node(self, beat: NodeBeat, *, ttl_s: float, window_ms: int) -> NameLease:
        """Enter a node, replacing an earlier start of it, and return its node id for names.

        A node keeps its id for ever; one that nobody has used for `window_ms` goes to whoever needs one.

        Raises:
            NodeReplacedError: a later start is registered.
            NodeIdsExhaustedError: no id is free.
        """
        ...

    async def beat_node(self, beat: NodeBeat, claim: "ShardClaim", *, ttl_s: float) -> ClusterView:
        """Record that a node lives, extend the locks that are still the claim's, and return the cluster.

        Raises:
            NodeReplacedError: another start of the node is registered; nothing was written.
        """
        ...

    async def cluster_view(self) -> ClusterView:
        """Return the cluster."""
        ...

    async def transfer_shards(
        self, claim: "ShardClaim", *, holder: str, node: str, ttl_s: float
    ) -> "list[ShardLock]":
        """Hand the locks that are still the claim's to another holder, each with the next epoch."""
        ...

    async def settle_estates(self, node: str, taken: Mapping[int, int], *, seq: int) -> None:
        """Record that others have all that `node` held of some shards below `seq` of its log. Twice is once.

        `taken` has for each shard the epoch of the estate. A shard that was taken from the node once more
        since then has another one, of which nothing is known yet: it stays as it is.
        """
        ...

    async def forgive_estates(self, node: str, shards: Sequence[int]) -> None:
        """Record that what `node` alone held of `shards` is not coming back, so that nobody waits for it."""
        ...

    async def drop_estates(self, node: str, taken: Mapping[int, int]) -> None:
        """Forget settled estates whose records the node's log no longer has; `taken` as for settling."""
        ...

    async def sharding(self, bits: int) -> Sharding:
        """Return how the store is divided, which the first call decides: into `2**bits` shards."""
        ...

    async def ask_sharding(self, bits: int | None, *, from_ms: int) -> Sharding:
        """Ask for `2**bits` shards from a moment on, in place of what was asked before; None for nothing.

        Raises:
            NoShardingError: no node has ever opened the store.
        """
        ...

    async def turn_sharding(self, *, force: bool = False) -> Sharding:
        """Divide the store as was asked, if that is due and nobody holds a shard; return how it is divided.

        What is kept by shard (locks, estates, held log segments) is kept by the new ones from then on, under
        epochs above all earlier ones: a claim or an estate of the old ones fits nothing any more. Nothing
        that is stored moves. `force` does it whoever holds a shard, as in `acquire_shards`.
        """
        ...
