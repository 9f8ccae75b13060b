"""How a node's parts are put together over its doors, in the order that recovery asks for."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from uuid import uuid4

import structlog

from des import __version__
from des.assignment import NameAssigner
from des.cluster import ClusterLease, Duties, NamingClock, coming_home
from des.cluster.name_time import AHEAD
from des.config import Settings
from des.db.catalog import ShardRun
from des.db.membership import NameLease, Sharding
from des.errors import PreconditionError
from des.files import Durability
from des.ingest.directory import StoreDirectory
from des.ingest.facts import FileFacts
from des.ingest.log import IngestLog
from des.ingest.open_index import OpenIndex
from des.ingest.values import OpenFile
from des.monitoring.node_parts_metrics import RecoveryReading
from des.naming import SnowflakeNameGenerator, created_ms_of, parse_name
from des.node.cluster_duties import ClusterDuties, ForeignFiles
from des.node.cluster_side import ClusterSide
from des.node.deletions import Deletions
from des.node.doors import Doors, behind_gate
from des.node.parts import Parts
from des.node.resumable import ResumableUploads
from des.node.shard_lease import ShardLease
from des.node.stored_acks import StoredAcks
from des.node.upload_folder import UploadFolder
from des.node.write_path import WritePath
from des.packer import CrashRecoveryManager, MultiShardPacker
from des.packer.backpressure import Backpressure
from des.packer.container_builder import ContainerBuilder
from des.packer.log_shipper import LogShipper
from des.packer.open_checkpoint import OpenCheckpoint
from des.packer.recovery import placed_anew
from des.packer.shipped_log import Replay, ShippedLog
from des.retrieval import Retriever, StoredContainers
from des.retrieval.listing import Listing
from des.retrieval.page_cache import open_page_cache
from des.retrieval.tombstones import Tombstones
from des.upkeep import GarbageCollector, GcLimits

_log = structlog.get_logger(__name__)

SHARE_BESIDE_OBJECTS: Final = 0.5
"""Of the disk's room, for the log, where the objects lie on it too: a sealed file is there twice at first."""
FLOOR_AHEAD_MS: Final = 3000
"""How far names are reserved ahead of the clock: one synced log record per this time."""


class StoreNotSharedError(PreconditionError):
    """The settings name no object store that other nodes can reach."""


async def assemble(
    settings: Settings,
    doors: Doors,
    directory: StoreDirectory,
    executor: ThreadPoolExecutor | None,
) -> Parts:
    """Recover the log, settle what a crash left, and connect the parts. Same errors as `Node.open`."""
    begun = doors.clock.monotonic()
    await doors.catalog.migrate()
    store_id = await doors.catalog.store_id()
    doors = await behind_gate(settings, doors, store_id)
    settings, sharding = await _divided(settings, doors)
    lease, named = await _enter(settings, doors, directory, sharding)
    shards = lease if isinstance(lease, ClusterLease) else None
    open_index = OpenIndex()
    pages = open_page_cache(settings, clock=doors.clock)
    containers = StoredContainers(
        catalog=doors.catalog,
        store=doors.store,
        cache_bytes=int(settings.index_cache_bytes),
        cache=pages,
        clock=doors.clock,
    )
    published: list[Callable[[Sequence[OpenFile]], None]] = [open_index.publish]
    log, recovered = await IngestLog.open(
        doors.disk,
        clock=doors.clock,
        node=directory.node_uuid,
        boot_epoch=directory.boot_epoch,
        # The packer keeps the delay, and looks at the catalog again before it lets go.
        settings=settings.log.model_copy(update={"reclaim_delay_s": 0}),
        executor=executor,
        publish=lambda files: published[0](files),  # noqa: PLW0108  it changes below
        salt=lambda: int.from_bytes(doors.random_bytes(4), "little"),
        disk_share=SHARE_BESIDE_OBJECTS if settings.keeps_objects_here else 1.0,
    )
    if sharding.generation:
        recovered = placed_anew(recovered, settings.shard_bits)
    builder = ContainerBuilder(
        settings=settings, disk=doors.disk, log=log.reader, node=str(directory.node_uuid)
    )
    builder.clear_staging()
    tombstones = Tombstones(
        doors.catalog,
        owns=None if shards is None else shards.owns,
        cache_s=settings.cluster.cache_s,
        clock=doors.clock,
    )

    def forget() -> None:
        writes.requests.forget_before(log.first_seq)
        open_index.forget_deletes_before(log.first_seq)

    shipper = LogShipper(
        settings=settings,
        node=directory.node_uuid,
        boot_epoch=directory.boot_epoch,
        log=log.reader,
        store=doors.store,
        catalog=doors.catalog,
        clock=doors.clock,
        claim=lease.claim_of,
        holds=lease.holds,
        random_bytes=doors.random_bytes,
    )

    def tenures() -> Mapping[int, int]:
        bits = settings.shard_bits
        served = [shard for shard in lease.locks if lease.owns_run(ShardRun(shard, 1, bits))]
        return {shard: lease.locks[shard].epoch for shard in served}

    packer = MultiShardPacker(
        settings=settings,
        log=log,
        open_index=open_index,
        catalog=doors.catalog,
        store=doors.store,
        builder=builder,
        clock=doors.clock,
        claim=lease.claim,
        on_stored=containers.add,
        random_bytes=doors.random_bytes,
        checkpoint=OpenCheckpoint(
            catalog=doors.catalog,
            open_index=open_index,
            clock=doors.clock,
            node=str(directory.node_uuid),
            shard_bits=settings.shard_bits,
            interval_s=settings.seal.checkpoint_s,
            tenures=tenures,
            claim_of=lease.claim_of,
        ),
        on_reclaimed=forget,
        on_sealed=shipper.sealed,
        on_settled=shipper.settled,
        pressure=shipper.pressure,
        within=lease.may_seal,
    )

    async def replay_shipped(wanted: Collection[int]) -> Replay:
        with coming_home():  # whose log is asked for these shards now decides about them
            found = await shipped_log.take_over(wanted)
        retriever.damaged |= bool(found.damaged)
        return found

    duties = None
    if isinstance(lease, ClusterLease):
        duties = ClusterDuties(
            lease=lease,
            catalog=doors.catalog,
            log=log,
            open_index=open_index,
            containers=containers,
            foreign=ForeignFiles(),
            packer=packer,
            tombstones=tombstones,
            shipper=shipper,
            replay=replay_shipped,
        )
        published[0] = duties.publish
        foreign_deletes = [one for one in recovered.deleted if not duties.keeps(one.shard, one.seq)]
        log.release_deletes(foreign_deletes)  # nobody was told of them, or the catalog has them
        recovered.deleted = [one for one in recovered.deleted if one not in foreign_deletes]
    recovery = CrashRecoveryManager(catalog=doors.catalog, log=log, open_index=open_index, packer=packer)
    summary = await recovery.settle(
        recovered,
        sort=list if duties is None else duties.sort,
        holds=lease.holds,
        bits=settings.shard_bits,
    )
    ttl_s = settings.cluster.ttl_s
    generator = SnowflakeNameGenerator(
        node_id=named.node_id,
        clock=doors.clock if shards is None else NamingClock(doors.clock, shards.now_ms, ttl_s=ttl_s),
        prefix=settings.name_prefix,
        wrap_bits=settings.wrap_bits,
        floor_ms=max(recovered.floor_ms, named.floor_ms),
        reserve=log.append_floor,
        # Who crashed and is back names from its mark on, which must not be too late for other nodes.
        reserve_ahead_ms=FLOOR_AHEAD_MS if shards is None else min(FLOOR_AHEAD_MS, int(ttl_s * AHEAD * 1000)),
    )
    assigner = NameAssigner(
        generator, shard_bits=settings.shard_bits, names_max=settings.limits.names_per_assign
    )
    retriever = Retriever(
        settings=settings,
        log=log.reader,
        open_index=open_index,
        containers=containers,
        store=doors.store,
        tombstones=tombstones,
        damaged=bool(recovered.damage),
        shards=shards,
    )
    shipped_log = ShippedLog(
        node=str(directory.node_uuid),
        boot_epoch=directory.boot_epoch,
        catalog=doors.catalog,
        store=doors.store,
        log=log,
        open_index=open_index,
        shipments=shipper.shipments,
        find=lambda name: retriever.find(name, parse_name(name)),
        claim=lease.claim_of,
        holds=lease.holds,
        shard_bits=settings.shard_bits,
        object_prefix=settings.object_prefix,
        clock=doors.clock,
    )
    acks = StoredAcks(
        default=Durability(settings.durability),
        shipper=shipper,
        open_index=open_index,
        stat=retriever.stat,
        describe=retriever.describe_open,
    )
    cluster = None
    if isinstance(lease, ClusterLease) and duties is not None:
        cluster = ClusterSide(lease, duties, read=retriever.open_log_file)
        named_until_ms = max(
            (created_ms_of(file.name, settings.wrap_bits) for file in recovered.files), default=0
        )
        lease.duties = Duties(
            gained=duties.gained,
            lost=duties.lost,
            gave=duties.gave,
            empty=duties.empty,
            is_empty=duties.is_empty,
            awaits_files=duties.awaits_files,
            holds_local_files=duties.holds_local_files,
            name_floor_ms=generator.shutdown_mark,
            named_until_ms=lambda: named_until_ms,
        )
    writes = WritePath(
        settings=settings,
        log=log,
        assigner=assigner,
        store=doors.store,
        find=retriever.find,
        tombstones=tombstones,
        is_absent=retriever.is_absent,
        describe=retriever.describe_open,
        random_bytes=doors.random_bytes,
        acks=acks,
        backpressure=Backpressure(
            log=log,
            open_index=open_index,
            packer=packer,
            clock=doors.clock,
            settings=settings.log,
            wait_max_s=settings.limits.admission_wait_s,
        ),
        shards=shards,
    )
    listing = Listing(
        settings=settings,
        catalog=doors.catalog,
        containers=containers,
        open_index=open_index,
        tombstones=tombstones,
    )
    deletions = Deletions(
        settings=settings,
        log=log,
        open_index=open_index,
        catalog=doors.catalog,
        tombstones=tombstones,
        find=retriever.find,
        claim=lease.claim_of,
        committing=writes.committing,
        on_settled=shipper.settled,
        store=doors.store,
        random_bytes=doors.random_bytes,
        clock=doors.clock,
        shards=writes.shards,
        cache_s=settings.cluster.cache_s if settings.in_cluster else 0.0,
    )
    if duties is not None:
        duties.deletions = deletions
    await deletions.replay(recovered.deleted)
    if cluster is None:
        replay = await replay_shipped(range(1 << settings.shard_bits))
    else:
        replay = Replay()  # shards are taken over one by one, as they are gained
    uploads = ResumableUploads(
        settings=settings,
        folder=UploadFolder(doors.disk),
        writes=writes,
        stat=retriever.stat,
        clock=doors.clock,
        random_bytes=doors.random_bytes,
        executor=executor,
        node="" if cluster is None else cluster.node,
    )
    await uploads.load()
    _remember_requests(writes, recovered.files)
    collector = GarbageCollector(
        catalog=doors.catalog,
        store=doors.store,
        clock=doors.clock,
        claim=lambda run: lease.claim(run) if lease.owns_run(run) else None,
        shard_bits=settings.shard_bits,
        limits=GcLimits.of(settings.gc),
        object_prefix=settings.object_prefix,
    )
    _log.info(
        "store opened",
        node=str(directory.node_uuid),
        boot_epoch=directory.boot_epoch,
        open_files=summary.open_files,
        stored_seals=summary.stored_seals,
        repeated_seals=summary.repeated_seals,
        replayed_files=replay.files,
        damage=[f"segment {place.segment} at {place.offset}: {place.cause}" for place in recovered.damage],
    )
    return Parts(
        settings=settings,
        doors=doors,
        directory=directory,
        log=log,
        open_index=open_index,
        packer=packer,
        lease=lease,
        cluster=cluster,
        node_id=named.node_id,
        assigner=assigner,
        generator=generator,
        writes=writes,
        retriever=retriever,
        deletions=deletions,
        listing=listing,
        collector=collector,
        shipper=shipper,
        shipped_log=shipped_log,
        acks=acks,
        uploads=uploads,
        pages=pages,
        store_id=store_id,
        executor=executor,
        recovery=RecoveryReading(
            seconds=doors.clock.monotonic() - begun,
            open_files=summary.open_files,
            repeated_seals=summary.repeated_seals,
            replayed_files=replay.files,
            damaged_places=len(recovered.damage),
        ),
    )


async def _divided(settings: Settings, doors: Doors) -> tuple[Settings, Sharding]:
    """Return the settings with as many shards as the store has.

    Nodes of a cluster agree by the catalog; the setting is for a new store. Who has a store for itself is
    obeyed at once.
    """
    sharding = await doors.catalog.sharding(settings.shard_bits)
    if sharding.bits != settings.shard_bits and not settings.in_cluster:
        await doors.catalog.ask_sharding(settings.shard_bits, from_ms=0)
        sharding = await doors.catalog.turn_sharding(force=True)
    if sharding.bits != settings.shard_bits:
        _log.info(
            "the setting shard_bits is for a new store; this one is divided otherwise",
            setting=settings.shard_bits,
            shard_bits=sharding.bits,
        )
    return settings.model_copy(update={"shard_bits": sharding.bits}), sharding


async def _enter(
    settings: Settings, doors: Doors, directory: StoreDirectory, sharding: Sharding
) -> tuple[ShardLease | ClusterLease, NameLease]:
    """Take the shards: all of an embedded store, in a cluster those that an earlier start held."""
    holder = str(uuid4())
    if not settings.in_cluster:
        whole = ShardLease(
            catalog=doors.catalog, holder=holder, shard_bits=settings.shard_bits, clock=doors.clock
        )
        await whole.acquire()
        return whole, NameLease(settings.node_id, 0)
    if not settings.object_store and settings.object_dir is None:
        raise StoreNotSharedError(
            "the objects of a cluster lie where all nodes reach them: set object_store or object_dir "
            "(or cluster.enabled: false for a node that has the store for itself)"
        )
    lease = ClusterLease(
        catalog=doors.catalog,
        node=str(directory.node_uuid),
        holder=holder,
        boot_epoch=directory.boot_epoch,
        version=__version__,
        capacity=settings.cluster.capacity,
        sharding=sharding,
        ttl_s=settings.cluster.ttl_s,
        clock=doors.clock,
    )
    return lease, await lease.register(window_ms=1 << settings.wrap_bits)


def _remember_requests(writes: WritePath, files: Sequence[OpenFile]) -> None:
    for file in files:
        if b'"request_id"' not in file.facts:
            continue
        request_id = FileFacts.decode(file.facts).request_id
        if request_id:
            writes.requests.remember(request_id, file)
