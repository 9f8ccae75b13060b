"""A node: everything behind the doors of one process, put together once (DESIGN §2)."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol, Self

import structlog
from prometheus_client import CollectorRegistry

from des import __version__
from des.assignment import AssignedName
from des.clock import Clock
from des.config import Settings
from des.db.catalog import Catalog, ContainerRow, DayTotals
from des.errors import CorruptError, DesError, NotFoundError
from des.files import FileInfo, FileSpec, FileState
from des.ingest.directory import StoreDirectory
from des.ingest.values import OpenFile
from des.monitoring.log_metrics import LogMetrics
from des.monitoring.node_parts_metrics import NodePartsMetrics
from des.node.assembly import assemble
from des.node.background import Background, Work
from des.node.companion import Companion, Companions
from des.node.doors import doors_of
from des.node.health_checks import checks_of
from des.node.own_shards import OwnShards
from des.node.parts import Parts
from des.node.put_many import WholeFile
from des.node.put_result import PutResult
from des.node.shard_status import ShardStatus
from des.node.shard_watch import ShardNews, ShardWatch
from des.node.stale_uploads import StaleUploads
from des.node.upload import Upload
from des.node.watched_parts import WatchedParts
from des.packer.health import HealthCheck
from des.retrieval import OpenedFile, Part, ReadCost, Wanted
from des.retrieval.listing import NOWHERE, ListPage, ListPosition, ListQuestion, OpenElsewhere
from des.storage.disk import Disk
from des.storage.object_store import Capabilities, ObjectStore

_log = structlog.get_logger(__name__)


class StatMany(Protocol):
    """As `Node.stat_many`."""

    def __call__(self, names: Sequence[str], *, cost: ReadCost) -> Awaitable[list[FileInfo | DesError]]:
        """Return what is known of many files, or why nothing is."""
        ...


LOG_THREADS: Final = 4
ROOM_LOOK_S: Final = 5.0
"""How often a log that was opened on a full disk looks for room."""
"""One commits groups, the others read what is not in the page cache."""


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """Whether the node can do its work, and why not."""

    writable: bool
    readable: bool
    cause: str
    """Empty when all is well."""


class Node:
    """One process's store: puts, gets, shard status, seals."""

    def __init__(self, parts: Parts) -> None:
        """For `open` only."""
        self.settings = parts.settings
        self.node_uuid = str(parts.directory.node_uuid)
        self.store_id = parts.store_id
        self.node_id = parts.node_id
        self.started_ms = parts.doors.clock.now_ms()
        self._parts = parts
        self._doors = parts.doors
        self._log = parts.log
        self._open_index = parts.open_index
        self._packer = parts.packer
        self._lease = parts.lease
        self._writes = parts.writes
        self._retriever = parts.retriever
        self._deletions = parts.deletions
        self._listing = parts.listing
        self._shards = OwnShards(parts)
        self._background = Background(parts.doors.clock)
        stale = StaleUploads(
            settings=parts.settings,
            catalog=parts.doors.catalog,
            store=parts.doors.store,
            clock=parts.doors.clock,
        )
        works: dict[str, Work] = {
            "deletions": parts.deletions.run,
            "resumable uploads": parts.uploads.run,
            "seals": parts.packer.run,
            "shard locks": parts.lease.run,
            "shipping": parts.shipper.run,
            "shipped log": parts.shipped_log.run,
            "stale uploads": stale.run,
        }
        if every_s := parts.settings.gc.every_s:
            works["garbage collection"] = lambda: parts.collector.run(every_s)
        self._background.start(works)
        self.uploads = parts.uploads
        """Uploads that go on where they stopped."""
        self._watch = ShardWatch(
            lambda: self.shard_status(None),
            boot_epoch=parts.directory.boot_epoch,
            node_id=parts.node_id,
            clock=parts.doors.clock,
            heartbeat_s=parts.settings.limits.watch_heartbeat_s,
        )
        self._closed = False
        self._companions = Companions()
        self.cluster = parts.cluster
        """What the node knows of others and does with them; None where it has the store for itself."""

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        clock: Clock | None = None,
        disk: Disk | None = None,
        store: ObjectStore | None = None,
        catalog: Catalog | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        threads: bool = True,
    ) -> Self:
        """Lock the data folder, recover the log, settle unfinished seals' files, and start to serve.

        Args:
            settings: of this node.
            clock: time; the machine's by default.
            disk: the node's files; the data folder by default.
            store: of containers and big files; a local folder by default.
            catalog: SQLite in the data folder by default.
            random_bytes: randomness; the system's by default.
            threads: False runs the log's disk work inline, for a deterministic simulation.

        Raises:
            StoreInUseError: another process has the data folder open.
            StoreVersionError, CatalogVersionError: the data was written by a newer version.
            DesError: the log or the catalog cannot be opened.
        """
        doors = doors_of(
            settings, clock=clock, disk=disk, store=store, catalog=catalog, random_bytes=random_bytes
        )
        directory = StoreDirectory.open(doors.disk)
        executor = ThreadPoolExecutor(LOG_THREADS, thread_name_prefix="des-log") if threads else None
        try:
            return cls(await assemble(settings, doors, directory, executor))
        except BaseException:
            await doors.catalog.close()
            await doors.store.close()
            if executor is not None:
                executor.shutdown(wait=False)
            directory.close()
            raise

    async def close(self) -> None:
        """Let appends in flight finish, close the log cleanly, give the locks back. Twice is once."""
        if self._closed:
            return
        self._closed = True
        await self._companions.close()
        await self._background.close()
        if self.cluster is not None:
            await self.cluster.close()
        try:
            await self._deletions.close()
            if self._log.failure is None:
                await self._close_names()
            await self._log.close()
        finally:
            await self._lease.release()
            await self._doors.catalog.close()
            await self._doors.store.close()
            await self._parts.pages.close()
            if self._parts.executor is not None:
                self._parts.executor.shutdown()
            self._parts.directory.close()

    async def wait_room(self) -> None:
        """Return when the node is to be opened anew, for it found its disk full and there is room now.

        Never, where its log takes writes or has another reason not to.
        """
        while True:
            await self._doors.clock.sleep(ROOM_LOOK_S)
            if self._log.room_needed_bytes and await self._log.has_room():
                return

    async def join(self, address: str) -> None:
        """Take part in the cluster, if there is one, reachable for other nodes at `address`."""
        if self.cluster is not None:
            await self.cluster.join(address)

    async def leave(self, *, within_s: float) -> None:
        """Hand the shards to other nodes, if there are any, before serving stops."""
        self._companions.stop()
        if self.cluster is not None:
            await self.cluster.leave(within_s=within_s)

    async def _close_names(self) -> None:
        try:
            await self._log.append_floor(self._parts.generator.shutdown_mark())
        except DesError as error:
            _log.warning("clock floor not written, names start at the reserved one", error=str(error))

    def run_beside(self, companion: Companion) -> None:
        """Run work that goes with this node; it is stopped before the node closes."""
        self._companions.add(companion)

    def tenures(self) -> dict[int, int]:
        """Return the shards that this node serves now, each with the epoch of its lock."""
        return self._shards.tenures()

    def is_open(self, name: str) -> bool:
        """Return whether the file is in this node's log and not yet readable from a container."""
        return self._open_index.get(name) is not None

    def open_counts(self) -> dict[int, int]:
        """Return how many files each shard has open that no seal has taken yet."""
        return self._shards.open_counts()

    def on_files_stored(self, listener: Callable[[ContainerRow, Sequence[OpenFile]], None]) -> None:
        """Have `listener` told of every container that this node commits, and of the files in it."""
        self._packer.listeners.append(listener)

    async def assign_names(self, count: int, prefix: str, request_id: str) -> list[AssignedName]:
        """Return new names; see `NameAssigner.assign`."""
        return await self._parts.assigner.assign(count, prefix, request_id)

    async def put_bytes(self, spec: FileSpec, data: bytes, crc32c: int) -> PutResult:
        """Write one whole file; see `WritePath.put_bytes`."""
        return await self._writes.put_bytes(spec, data, crc32c)

    async def put_many(self, items: Sequence[WholeFile]) -> list[PutResult | DesError]:
        """Write many whole files at the price of few waits; see `PutMany.run`."""
        return await self._writes.put_many(items)

    async def begin_put(self, spec: FileSpec) -> Upload:
        """Start a file that arrives in parts; see `WritePath.begin`."""
        return await self._writes.begin(spec)

    async def open_file(self, name: str) -> OpenedFile:
        """Find a file to read; see `Retriever.open`."""
        return await self._retriever.open(name)

    def read_many(
        self, wanted: Sequence[Wanted], *, part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        """Read many files in the order in which they are stored; see `BatchReader.read`."""
        return self._retriever.read_many(wanted, part_bytes=part_bytes, cost=cost)

    async def stat_many(self, names: Sequence[str], *, cost: ReadCost) -> list[FileInfo | DesError]:
        """Return what is known of many files, or why nothing is; see `BatchReader.stat`."""
        return await self._retriever.stat_many(names, cost=cost)

    async def stat(self, name: str) -> FileInfo:
        """Return what is known of a file; see `Retriever.stat`."""
        return await self._retriever.stat(name)

    async def list_files(
        self,
        question: ListQuestion,
        *,
        after: ListPosition | None,
        limit: int,
        names_only: bool,
        cost: ReadCost,
    ) -> ListPage:
        """List files in the order of day and name; see `Listing.page`.

        `names_only` gives what is known without reading the files' metadata.

        Raises:
            UnavailableError: something that may hold names, or metadata, could not be asked.
        """
        page = await self.list_names(question, after=after, limit=limit, cost=cost)
        if names_only:
            return page
        return ListPage(await self.described(page.files, cost, stat_many=self.stat_many), page.next)

    async def list_names(
        self,
        question: ListQuestion,
        *,
        after: ListPosition | None,
        limit: int,
        cost: ReadCost,
        elsewhere: OpenElsewhere = NOWHERE,
    ) -> ListPage:
        """List files without their metadata, those that other nodes have open among them."""
        return await self._listing.page(question, after=after, limit=limit, cost=cost, elsewhere=elsewhere)

    async def described(
        self, listed: Sequence[FileInfo], cost: ReadCost, *, stat_many: StatMany
    ) -> list[FileInfo]:
        """Return the listed files that are still there with what `stat_many` says of them.

        Raises:
            UnavailableError: metadata could not be asked for.
        """
        there = [info.name for info in listed if info.state is not FileState.DELETED]
        found = dict(zip(there, await stat_many(there, cost=cost), strict=True))
        described: list[FileInfo] = []
        for info in listed:
            known = found.get(info.name, info)
            if isinstance(known, CorruptError):
                known = info  # its name is sound, and reading it says what is not
            if isinstance(known, NotFoundError):
                continue  # deleted meanwhile
            if isinstance(known, DesError):
                raise known
            described.append(known)
        return described

    async def delete_many(
        self, names: Sequence[str], *, allow_missing: bool
    ) -> list[FileInfo | DesError | None]:
        """Delete files; see `Deletions.delete_many`."""
        return await self._deletions.delete_many(names, allow_missing=allow_missing)

    async def wait_stored(self, names: Sequence[str]) -> list[FileInfo | DesError]:
        """Return each file once it is stored, or why that is not known; see `StoredAcks.wait`."""
        return await self._parts.acks.wait(names)

    async def seal_shard(self, shard: int) -> list[ContainerRow]:
        """Seal what a shard holds open; see `MultiShardPacker.seal_shard`."""
        self._shards.check(shard)
        if self.cluster is not None:
            self.cluster.check_owner(shard)
        return await self._packer.seal_shard(shard)

    async def shard_status(self, shards: Sequence[int] | None) -> list[ShardStatus]:
        """Return the state of the given shards, or of all, by number.

        Raises:
            ShardNotFoundError: no such shard.
            CatalogUnavailableError: what is stored is not known now.
        """
        return await self._shards.status(shards)

    async def day_totals(self, days_max: int) -> list[DayTotals]:
        """Return what the last days with containers hold.

        Raises:
            CatalogUnavailableError: not known now.
        """
        return await self._doors.catalog.day_totals(days_max)

    def backlog(self) -> tuple[int, int]:
        """Return how many files wait for a seal, and their bytes."""
        waiting = WatchedParts(self._parts).backlog()
        return waiting.files, waiting.bytes

    async def capabilities(self) -> Capabilities:
        """Return what the object store honours."""
        return await self._doors.store.capabilities()

    def show_metrics(self, registry: CollectorRegistry) -> None:
        """Show in `registry` what the node counts by itself; once."""
        self._doors.store_metrics.register(registry)
        self._parts.shipper.show_metrics(registry)
        self._packer.show_metrics(registry)
        watched = WatchedParts(self._parts)
        LogMetrics(registry, watched)
        NodePartsMetrics(registry, watched.read, version=__version__)

    def health(self) -> NodeHealth:
        """Return whether puts and gets are served."""
        failure = self._log.failure or (self.cluster.failure if self.cluster is not None else None)
        return NodeHealth(
            writable=failure is None, readable=not self._closed, cause=str(failure) if failure else ""
        )

    def health_checks(self) -> list[HealthCheck]:
        """Return what to look at to know how the node is; see `HealthChecker`."""
        return checks_of(
            self.settings,
            catalog=self._doors.catalog,
            store=self._doors.store,
            disk=self._doors.disk,
            log=self._log,
            packer=self._packer,
            locks=self._lease.lock_reading,
            broken=self._background.troubles,
            troubles=self._companions.troubles if self._companions else None,
        )

    def watch_with(self, look: Callable[[], Awaitable[Sequence[ShardStatus]]], *, look_s: float) -> None:
        """Have watchers of shards told what `look` finds; see `ShardWatch.widen`."""
        self._watch.widen(look, look_s=look_s)

    async def shard_revision(self) -> int:
        """Return a point in time that `watch_shards` can go on from; see `ShardWatch.look`."""
        return await self._watch.look()

    def watch_shards(
        self, shards: frozenset[int], *, start_revision: int, min_interval_s: float
    ) -> AsyncGenerator[ShardNews | None, None]:
        """Yield what happens to shards; see `ShardWatch.watch`."""
        for shard in shards:
            self._shards.check(shard)
        return self._watch.watch(shards, start_revision=start_revision, min_interval_s=min_interval_s)
