"""Collects garbage under the law of `gc_plan`: looks, plans, proves, and deletes only when told to."""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from des.clock import Clock
from des.db.catalog import Catalog, ContainerRow, ContainerState, ShardClaim, ShardRun
from des.db.rows import LogSegmentRow, LogSegmentState, Sighting, Tombstone
from des.errors import DesError
from des.packer.container_id import make_container_id
from des.packer.segment_row import segment_row
from des.storage.identity import read_identity
from des.storage.object_store import NoSuchObjectError, ObjectInfo, ObjectStore
from des.upkeep.deleted_copies import copy_missing
from des.upkeep.gc_plan import (
    Cause,
    Doomed,
    Found,
    GcLimits,
    GcPlan,
    GcRefusedError,
    check_amount,
    plan_collection,
    unnamed,
)
from des.upkeep.latecomers import add_latecomers
from des.upkeep.object_keys import parse_key
from des.upkeep.superseded import SupersededProof

_log = structlog.get_logger(__name__)

TOMBSTONE_PAGE: Final = 1000


@dataclass(slots=True)
class GarbageReport:
    """What a collection found and did."""

    plan: GcPlan
    doomed: list[Doomed] = field(default_factory=list)
    """All that may go, proven suspects included."""
    deleted: list[Doomed] = field(default_factory=list)
    """What went; nothing in a dry run."""
    released: list[str] = field(default_factory=list)
    """Keys of shipped log segments that no row named and nobody needs: recorded as such, or to be."""
    copied: int = 0
    """Tombstones of which the object store had no copy, and has one now."""
    stayed: dict[str, str] = field(default_factory=dict)
    """Key -> why it stayed, of objects that were nearly deleted."""

    @property
    def deleted_bytes(self) -> int:
        """Sum of the deleted objects' sizes."""
        return sum(one.size for one in self.deleted)


class GarbageCollector:
    """Deletes what is proven to be nobody's; by default only says what it would delete."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: ObjectStore,
        clock: Clock,
        claim: Callable[[ShardRun], ShardClaim | None],
        shard_bits: int,
        limits: GcLimits | None = None,
        object_prefix: str = "",
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Connect.

        Args:
            catalog: has the rows.
            store: has the objects.
            clock: ours, compared with the database's.
            claim: gives what a write for these shards has to show; None where we do not hold them.
            shard_bits: of the store.
            limits: how careful to be.
            object_prefix: the setting of that name.
            random_bytes: for ids of copies.
        """
        self._random_bytes = random_bytes
        self._catalog = catalog
        self._store = store
        self._clock = clock
        self._claim = claim
        self._bits = shard_bits
        self._limits = limits or GcLimits()
        self._prefix = object_prefix.strip("/")
        self.deleted_objects = 0
        """By this process."""
        self.deleted_bytes = 0
        self.failures = 0
        """Collections that were refused or failed."""

    async def run(self, every_s: float) -> None:
        """Collect every `every_s` seconds until cancelled; what fails is logged and tried again."""
        while True:
            await self._clock.sleep(every_s)
            try:
                report = await self.collect(apply=True)
            except DesError as error:
                self.failures += 1
                _log.warning("garbage was not collected", error=str(error))
                continue
            self.deleted_objects += len(report.deleted)
            self.deleted_bytes += report.deleted_bytes
            if report.deleted or report.stayed:
                _log.info(
                    "garbage collected",
                    objects=len(report.deleted),
                    bytes=report.deleted_bytes,
                    stayed=len(report.stayed),
                )

    async def collect(self, *, apply: bool) -> GarbageReport:
        """Look at everything and, with `apply`, delete what may go. Costs a whole listing.

        Raises:
            GcRefusedError: something does not add up, or too much would go; nothing was deleted.
            DesError: catalog or store did not answer; nothing was deleted because of that.
        """
        identity = await read_identity(self._store, object_prefix=self._prefix)
        if identity is not None and identity != await self._catalog.store_id():
            raise GcRefusedError(f"the objects are those of another store, {identity}")
        found = await self._look()
        strangers = [Sighting(info.key, info.etag, info.size) for info in unnamed(found)]
        sightings = await self._catalog.see_unnamed(strangers)
        # Not before the sightings that were just written: a clock that stands before one is not believed.
        found = replace(found, now_ms=await self._catalog.now_ms(), local_ms=self._clock.now_ms())
        plan = plan_collection(found, sightings, self._limits)
        report = GarbageReport(plan, list(plan.doomed))
        await self._prove(report)
        await self._settle_stray_segments(report, apply=apply)
        check_amount(report.doomed, found.objects, self._limits)
        if apply:
            for one in report.doomed:
                await self._delete(one, report)
            for row in plan.gone:
                await self._record_gone(row)
            report.copied = await copy_missing(
                self._catalog,
                self._store,
                found.objects.values(),
                prefix=self._prefix,
                make_id=lambda: make_container_id(self._clock.now_ms(), self._random_bytes),
            )
        return report

    async def _look(self) -> Found:
        # The listing comes first. A row stands before its object, so that whatever is listed here and has
        # no row when the rows are read afterwards really has none.
        objects = {
            info.key: info async for info in self._store.list(f"{self._prefix}/" if self._prefix else "")
        }
        rows = await self._catalog.containers()
        segments = await self._catalog.log_segments()
        named = [row.key for row in rows if row.state is ContainerState.STORED]
        named += [row.key for row in segments if row.state is LogSegmentState.HELD]
        await add_latecomers(self._store, objects, named)
        return Found(
            now_ms=await self._catalog.now_ms(),
            local_ms=self._clock.now_ms(),
            objects=objects,
            rows=rows,
            tombstones=[one async for one in self._tombstones() if one.external_key],
            segments=segments,
            prefix=self._prefix,
        )

    async def _tombstones(self) -> AsyncIterator[Tombstone]:
        after = ""
        while page := await self._catalog.tombstones(after=after, limit=TOMBSTONE_PAGE):
            for one in page:
                yield one
            after = page[-1].name

    async def _proof(self) -> SupersededProof:
        return SupersededProof(
            catalog=self._catalog,
            store=self._store,
            bits=self._bits,
            locks=await self._catalog.shard_locks(),
        )

    async def _prove(self, report: GarbageReport) -> None:
        if not report.plan.suspects:
            return
        proof = await self._proof()
        for suspect in report.plan.suspects:
            if objection := await proof.objection(suspect):
                report.stayed[suspect.key] = objection
            else:
                report.doomed.append(Doomed(suspect.key, suspect.etag, suspect.size, Cause.SUPERSEDED))

    async def _settle_stray_segments(self, report: GarbageReport, *, apply: bool) -> None:
        """Record what a lost node shipped and never recorded, if nobody needs it; it goes as others do then.

        The record is guarded by the epochs of all its shards, which we hold: whoever held them before can
        record it no more, and whoever holds them next finds the row.
        """
        if not report.plan.stray_segments:
            return
        proof = await self._proof()
        for suspect in report.plan.stray_segments:
            try:
                objection = await self._settle_segment(suspect, proof, apply=apply)
            except DesError as error:
                objection = str(error)
            if objection:
                report.stayed[suspect.key] = objection
            else:
                report.released.append(suspect.key)

    async def _settle_segment(self, suspect: ObjectInfo, proof: SupersededProof, *, apply: bool) -> str:
        row = await segment_row(
            self._store, await self._store.head(suspect.key), prefix=self._prefix, bits=self._bits
        )
        if objection := await proof.objection_to_segment(suspect, row):
            return objection
        if not apply:
            return ""
        claims = [self._claim(ShardRun(shard, 1, row.bits)) for shard in row.shards]
        held = [claim for claim in claims if claim is not None]
        if not held or len(held) < len(claims):
            return "another node holds its shards"
        claim = ShardClaim(held[0].holder, sorted({epoch for one in held for epoch in one.epochs}))
        await self._catalog.record_log_segment(row, claim)
        await self._catalog.release_log_segments([row.id], row.shards, claim)
        _log.info("shipped log segment is nobody's", key=row.key, files=row.file_count)
        return ""

    async def _delete(self, one: Doomed, report: GarbageReport) -> None:
        """Look once more, delete under the etag that was listed, record it."""
        try:
            if objection := await self._objection(one):
                report.stayed[one.key] = objection
                return
            await self._store.delete(one.key, etag=one.etag)
            _log.info("garbage deleted", key=one.key, cause=str(one.cause), size=one.size)
            report.deleted.append(one)
            if isinstance(one.row, LogSegmentRow):
                await self._catalog.drop_log_segments([one.row.id])
            elif one.row is not None:
                await self._record_gone(one.row)
        except DesError as error:
            report.stayed.setdefault(one.key, str(error))
            _log.warning("garbage stays", key=one.key, error=str(error))

    async def _objection(self, one: Doomed) -> str:
        if isinstance(one.row, ContainerRow):
            if self._claim(one.row.run) is None:
                return "another node holds its shards"
            row = await self._catalog.container(one.row.container_id)
            if row is None or row.state is not one.row.state:
                return f"its row is {'gone' if row is None else row.state.value} now"
        if one.cause is Cause.SUPERSEDED:
            # Its row may have come since: a node that was away may have recorded it.
            container_id = parse_key(one.key, prefix=self._prefix).name
            if await self._catalog.container(container_id) is not None:
                return "a row names it now"
        try:
            info: ObjectInfo = await self._store.head(one.key)
        except NoSuchObjectError:
            return "it is not there any more"
        return "" if info.etag == one.etag else "it changed since it was listed"

    async def _record_gone(self, row: ContainerRow) -> None:
        claim = self._claim(row.run)
        if claim is not None:
            await self._catalog.remove_containers([row.container_id], claim)
