"""What a node is made of."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from des.assignment import NameAssigner
from des.cluster import ClusterLease
from des.config import Settings
from des.core import IndexCache
from des.ingest.directory import StoreDirectory
from des.ingest.log import IngestLog
from des.ingest.open_index import OpenIndex
from des.monitoring.node_parts_metrics import RecoveryReading
from des.naming import SnowflakeNameGenerator
from des.node.cluster_side import ClusterSide
from des.node.deletions import Deletions
from des.node.doors import Doors
from des.node.resumable import ResumableUploads
from des.node.shard_lease import ShardLease
from des.node.stored_acks import StoredAcks
from des.node.write_path import WritePath
from des.packer import MultiShardPacker
from des.packer.log_shipper import LogShipper
from des.packer.shipped_log import ShippedLog
from des.retrieval import Retriever
from des.retrieval.listing import Listing
from des.upkeep import GarbageCollector


@dataclass(frozen=True, slots=True)
class Parts:
    """What a node is made of."""

    settings: Settings
    doors: Doors
    directory: StoreDirectory
    log: IngestLog
    open_index: OpenIndex
    packer: MultiShardPacker
    lease: ShardLease | ClusterLease
    cluster: ClusterSide | None
    node_id: int
    """In the names that this node gives."""
    assigner: NameAssigner
    generator: SnowflakeNameGenerator
    writes: WritePath
    retriever: Retriever
    deletions: Deletions
    listing: Listing
    collector: GarbageCollector
    shipper: LogShipper
    shipped_log: ShippedLog
    acks: StoredAcks
    uploads: ResumableUploads
    pages: IndexCache
    store_id: str
    executor: ThreadPoolExecutor | None
    recovery: RecoveryReading
    """What this start found."""
