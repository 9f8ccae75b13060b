"""Seals: open files become containers, containers become the catalog's truth (DESIGN §4)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from des.clock import Clock
from des.config import Settings
from des.db.catalog import Catalog, ContainerRow, ContainerState, ShardClaim, ShardRun
from des.errors import DesError
from des.ingest.log import IngestLog
from des.ingest.open_index import OpenIndex
from des.ingest.values import OpenFile, Sealing
from des.monitoring.seal_metrics import SealMetrics
from des.monitoring.tracing import root_span
from des.packer.container_builder import ContainerBuilder
from des.packer.container_commit import ContainerCommit, run_of
from des.packer.container_id import make_container_id
from des.packer.open_checkpoint import OpenCheckpoint
from des.packer.seal_pace import SealPace
from des.packer.seal_plan import BUDGET_HIGH, SealPlan, SealReason, Within, plan_request, plan_seals
from des.storage.object_store import ObjectStore

_log = structlog.get_logger(__name__)

WAS_STORED: Final = frozenset({ContainerState.STORED, ContainerState.RETIRED})
"""States of a container whose files are in containers: its own or those that replaced it."""
FAILURES_MAX: Final = 3
"""Seals that may fail one after the other before the rest of a request is given up."""


@dataclass(slots=True)
class PendingSeal:
    """A seal that is logged and not yet recorded."""

    sealing: Sealing
    files: list[OpenFile]
    reason: SealReason
    attempts: int = 0
    retry_at: float = 0.0
    """Not before this monotonic time, in seconds."""
    error: str = ""
    """What the last attempt failed with."""


@dataclass(slots=True)
class _StoredSeal:
    sealing: Sealing
    files: list[OpenFile]
    stored_at: float


class MultiShardPacker:
    """Seals what is due for all shards of a node, one container at a time.

    A seal is logged before anything else, so a restart finishes or repeats it: the same records give
    the same bytes under the same key. Where they do not (another release of zstd, another setting), or
    the key holds something else, the container is abandoned and its files are sealed under another id.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        log: IngestLog,
        open_index: OpenIndex,
        catalog: Catalog,
        store: ObjectStore,
        builder: ContainerBuilder,
        clock: Clock,
        claim: Callable[[ShardRun], ShardClaim],
        on_stored: Callable[[ContainerRow], None],
        random_bytes: Callable[[int], bytes],
        checkpoint: OpenCheckpoint,
        on_reclaimed: Callable[[], None] = lambda: None,
        on_sealed: Callable[[list[OpenFile]], None] = lambda _: None,
        on_settled: Callable[[list[OpenFile]], None] = lambda _: None,
        pressure: Callable[[], float] = lambda: 0.0,
        within: Within = lambda _: True,
    ) -> None:
        """Connect the parts.

        Args:
            settings: of the node.
            log: has the open files.
            open_index: says which.
            catalog: records containers.
            store: holds them.
            builder: makes them.
            clock: times it all.
            claim: returns what a write for these shards has to show.
            on_stored: hears of each container that was recorded, before its files leave the open index.
            random_bytes: for container ids.
            checkpoint: tells the catalog what is open.
            on_reclaimed: called when the log has given up segments.
            on_sealed: hears of the files of a container that was recorded.
            on_settled: hears of the files that the log lets go of.
            pressure: how much of another room that open files take is full, as a share of it: near 1 the
                oldest are sealed, as when the log is.
            within: whether this node may seal a run of shards.
        """
        self._settings = settings
        self._on_sealed = on_sealed
        self._on_settled = on_settled
        self._pressure = pressure
        self._within = within
        self._on_reclaimed = on_reclaimed
        self._log = log
        self._open_index = open_index
        self._catalog = catalog
        self._clock = clock
        self._claim = claim
        self._on_stored = on_stored
        self._random_bytes = random_bytes
        self._checkpoint = checkpoint
        self._pending: list[PendingSeal] = []
        self._stored: list[_StoredSeal] = []
        self._sealing = asyncio.Lock()
        self._maintenance_error = ""
        self._metrics = SealMetrics()
        self._containers = ContainerCommit(catalog=catalog, store=store, builder=builder, claim=claim)
        self.listeners: list[Callable[[ContainerRow, Sequence[OpenFile]], None]] = []
        """Told of every container that is committed, with the files that left the open index for it."""
        self.pace = SealPace()
        """How fast seals empty the log."""
        self.last_seal_ms: dict[int, int] = {}
        """Shard to the time of its last seal by this process, UTC milliseconds since 1970."""

    async def run(self) -> None:
        """Seal, reclaim and checkpoint until cancelled. A failure is kept, shown and retried."""
        while True:
            try:
                await self.step()
                self._maintenance_error = ""
            except DesError as error:
                self._maintenance_error = str(error)
                _log.warning("packer step failed", error=str(error), reason=error.reason)
            except Exception as error:  # noqa: BLE001  others than seals go on too
                self._maintenance_error = repr(error)
                _log.exception("packer step broke")
            await self._checkpoint.keep()
            await self._clock.sleep(self._settings.seal.check_interval_s)

    async def step(self) -> None:
        """Finish what is pending, seal what is due, give back log that is no longer needed.

        Raises:
            DesError: the first failure, of whatever kind; everything else was tried all the same.
        """
        errors: list[Exception] = []
        async with self._sealing:
            now = self._clock.monotonic()
            for pending in [seal for seal in self._pending if seal.retry_at <= now]:
                await self._attempt(self._finish(pending), errors)
            for plan in self._due():
                await self._attempt(self._seal(plan), errors)
        await self._attempt(self._reclaim(), errors)
        if errors:
            raise errors[0]

    @staticmethod
    async def _attempt(work: Awaitable[object], errors: list[Exception]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  nobody foresaw all that can break one: others go on
            errors.append(error)

    async def seal_shard(self, shard: int) -> list[ContainerRow]:
        """Seal all that `shard` holds open, with its quiet neighbours, and return the new containers.

        Raises:
            DesError: the seal is logged and will be repeated; what failed it this time.
        """
        rows: list[ContainerRow] = []
        async with self._sealing:
            for seal in [seal for seal in self._pending if _meets(seal, [shard])]:
                rows += await self._finish(seal)
            for plan in self._asked([shard], self._within):
                rows += await self._seal(plan)
        return rows

    async def seal_shards(self, shards: Collection[int]) -> dict[int, DesError]:
        """Seal all that these shards hold open, and nothing of others; return what failed, by shard.

        A seal that fails holds none of the others up, unless `FAILURES_MAX` of them fail one after the other:
        then it is catalog or store that does not answer, and trying the rest would only take long.
        """
        wanted = frozenset(shards)
        failed: dict[int, DesError] = {}
        in_a_row = 0
        async with self._sealing:
            work: list[tuple[range, Callable[[], Awaitable[object]]]] = [
                (_shards_of(run_of(seal.sealing)), partial(self._finish, seal))
                for seal in self._pending
                if _meets(seal, wanted)
            ]
            work += [
                (_shards_of(plan.run), partial(self._seal, plan))
                for plan in self._asked(wanted, lambda run: wanted.issuperset(_shards_of(run)))
            ]
            for reached, seal_one in work:
                try:
                    if in_a_row < FAILURES_MAX:
                        await seal_one()
                        in_a_row = 0
                        continue
                except DesError as error:
                    in_a_row += 1
                    last = error
                failed.update(dict.fromkeys(wanted.intersection(reached), last))
        return failed

    def _asked(self, shards: Collection[int], within: Within) -> list[SealPlan]:
        return plan_request(
            self._open_index.buckets(),
            shards=shards,
            shard_bits=self._settings.shard_bits,
            useful_bytes=int(self._settings.seal.useful_bytes),
            within=within,
        )

    async def forsake(self, shards: Collection[int]) -> None:
        """Give up unfinished seals that reach into shards which another node has taken.

        What was committed before is kept; of the others, the files of shards that are still this node's
        wait for another seal. The catalog refuses a commit of such a seal for ever, since the epochs of
        the lost shards have moved on.

        Raises:
            CatalogUnavailableError: whether one was committed is not known; try again.
        """
        async with self._sealing:
            for seal in [seal for seal in self._pending if _meets(seal, shards)]:
                row = await self._catalog.container(seal.sealing.container_id)
                if row is not None and row.state in WAS_STORED:
                    await self._finish(seal)
                    continue
                self._pending.remove(seal)
                self._open_index.put_back(
                    [file for file in seal.files if self._open_index.get(file.name) is file]
                )
                # Deleted while the seal had them: nobody else will let go of their records.
                self._log.mark_stored([file for file in seal.files if self._open_index.is_deleted(file.name)])
                _log.info("seal given up", container=seal.sealing.container_id, files=len(seal.files))

    def adopt(self, sealing: Sealing, files: list[OpenFile]) -> None:
        """Take over a seal that an earlier process logged and did not finish."""
        self._pending.append(PendingSeal(sealing, files, SealReason.RECOVERY))

    def adopt_stored(self, sealing: Sealing, files: list[OpenFile]) -> None:
        """Take over a stored seal whose records the log still holds, to give them up in time."""
        self._stored.append(_StoredSeal(sealing, files, self._clock.monotonic()))

    def is_sealing(self, shard: int) -> bool:
        """Return whether a logged seal of this shard is not yet recorded."""
        return any(shard in run_of(seal.sealing) for seal in self._pending)

    def last_error(self, shard: int) -> str:
        """Return what keeps this shard's files from being stored; empty when nothing does."""
        for seal in self._pending:
            if seal.error and shard in run_of(seal.sealing):
                return seal.error
        return self._maintenance_error

    def show_metrics(self, registry: CollectorRegistry) -> None:
        """Show what is counted here in `registry`; once."""
        self._metrics.register(registry, pending=lambda: len(self._pending))

    @property
    def is_emptying(self) -> bool:
        """Whether seals are under way, and none fails."""
        return self._sealing.locked() and not self.seal_error

    @property
    def seal_error(self) -> str:
        """What the oldest seal that failed last time failed with; empty when none did."""
        return next((seal.error for seal in self._pending if seal.error), "")

    def _due(self) -> list[SealPlan]:
        if self._log.failure is not None:
            return []
        return plan_seals(
            self._open_index.buckets(),
            now_ms=self._clock.now_ms(),
            shard_bits=self._settings.shard_bits,
            settings=self._settings.seal,
            fullness=max(self._log.fill.fullness, self._pressure()),
            within=self._within,
        )

    async def _seal(self, plan: SealPlan) -> list[ContainerRow]:
        """Seal the plan's files, in as many containers as their size asks for.

        What arrives meanwhile is left to the next seal: where much is written this would not end.
        """
        rows: list[ContainerRow] = []
        stop_seq = self._log.next_seq
        shards = _shards_of(plan.run)
        epoch = max(epoch for _, epoch in self._claim(plan.run).epochs)
        while files := self._open_index.take(
            plan.day,
            shards,
            files_max=self._settings.seal.entries,
            bytes_max=int(self._settings.seal.size_bytes),
            stop_seq=stop_seq,
        ):
            sealing = Sealing(
                container_id=make_container_id(self._clock.now_ms(), self._random_bytes),
                day=plan.day,
                first_shard=plan.run.first,
                span=plan.run.span,
                bits=plan.run.bits,
                layout=self._settings.layout,
                epoch=epoch,
                seqs=[file.seq for file in files],
            )
            try:
                await self._log.append_sealing(sealing)
            except BaseException:
                # Whether the record is in the log is unknown. A restart settles it; until then the
                # files stay readable, and sealing them under another id could double them.
                if self._log.failure is None:
                    self._log.mark_stored(self._open_index.put_back(files))
                raise
            pending = PendingSeal(sealing, files, plan.reason)
            self._pending.append(pending)
            rows += await self._finish(pending)
        return rows

    async def _finish(self, pending: PendingSeal) -> list[ContainerRow]:
        """Build, announce, upload, verify, commit, log: each step repeatable.

        Returns the container; nothing when it was abandoned, and its files offered to another seal.
        """
        pending.attempts += 1
        sealing = pending.sealing
        begun = self._clock.monotonic()
        try:
            with root_span(
                "seal", reason=pending.reason, container=sealing.container_id, files=len(pending.files)
            ):
                row = await self._containers.store(sealing, pending.files)
        except Exception as error:
            self._metrics.missed(pending.reason, "failed")
            pending.error = str(error) if isinstance(error, DesError) else repr(error)
            pending.retry_at = self._clock.monotonic() + self._settings.seal.retry_s
            _log.warning(
                "seal failed, will be repeated",
                container=sealing.container_id,
                shard=sealing.first_shard,
                span=sealing.span,
                attempts=pending.attempts,
                error=pending.error,
            )
            raise
        if row.state is ContainerState.ABANDONED:
            self._metrics.missed(pending.reason, "abandoned")
            self._pending.remove(pending)
            self._log.mark_stored(self._open_index.put_back(pending.files))
            return []
        if row.state is ContainerState.STORED:
            self._on_stored(row)
        self._open_index.remove(pending.files)
        self._on_sealed(pending.files)
        self._pending.remove(pending)
        for listener in self.listeners:
            listener(row, pending.files)
        self.adopt_stored(sealing, pending.files)
        for shard in {file.shard for file in pending.files}:
            self.last_seal_ms[shard] = self._clock.now_ms()
        took_s = self._clock.monotonic() - begun
        sealed_bytes = sum(file.size for file in pending.files)
        self.pace.add(self._log.fill.share(records=len(pending.files), data_bytes=sealed_bytes), took_s)
        self._metrics.stored(
            pending.reason,
            seconds=took_s,
            files=row.geometry.file_count,
            size=row.geometry.size,
            now_ms=self._clock.now_ms(),
        )
        _log.info(
            "container stored",
            container=row.container_id,
            shard=sealing.first_shard,
            span=sealing.span,
            key=row.key,
            files=row.geometry.file_count,
            bytes=row.geometry.size,
            reason=str(pending.reason),
        )
        # Only a hint: without it the next start asks the catalog. A log that failed must not fail the seal.
        with contextlib.suppress(DesError):
            await self._log.append_stored(sealing.container_id, row.etag)
        return [row]

    async def _reclaim(self) -> None:
        """Give up log segments whose files were stored long enough ago and still are.

        The row is read again first: a database that lost a committed row (failover to a replica that
        was behind) makes the container be recorded anew instead of its files being lost.
        """
        pressed = self._log.fill.fullness > BUDGET_HIGH
        due = self._clock.monotonic() - (0.0 if pressed else self._settings.log.reclaim_delay_s)
        for stored in [seal for seal in self._stored if seal.stored_at <= due]:
            row = await self._catalog.container(stored.sealing.container_id)
            self._stored.remove(stored)
            if row is not None and row.state in WAS_STORED:
                self._log.mark_stored(stored.files)
                self._on_settled(stored.files)
                continue
            _log.error("catalog lost a stored container", container=stored.sealing.container_id)
            for file in stored.files:
                self._open_index.add(file)
            self.adopt(stored.sealing, stored.files)
        if await self._log.reclaim():
            self._on_reclaimed()


def _meets(seal: PendingSeal, shards: Collection[int]) -> bool:
    return any(shard in shards for shard in _shards_of(run_of(seal.sealing)))


def _shards_of(run: ShardRun) -> range:
    return range(run.first, run.first + run.span)
