"""Several nodes over one catalog: who owns which shard, and what a node may do for it (DESIGN §7)."""

from des.cluster.duties import Duties
from des.cluster.errors import NotShardOwnerError, not_shard_owner
from des.cluster.lease import ClusterLease
from des.cluster.lock_reading import LockReading
from des.cluster.name_time import NameAheadError, NamingClock
from des.cluster.shards import EveryShard, Shards, coming_home
from des.cluster.share_plan import Member, plan_shares

__all__ = [
    "ClusterLease",
    "Duties",
    "EveryShard",
    "LockReading",
    "Member",
    "NameAheadError",
    "NamingClock",
    "NotShardOwnerError",
    "Shards",
    "coming_home",
    "not_shard_owner",
    "plan_shares",
]
