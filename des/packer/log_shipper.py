"""STORED without a seal: files of the log in the object store, many in one object (docs/log.md, section 7).

A file is stored when the object is whole and its row is in the catalog, guarded by the epochs of all
its shards; only then does a put that asked for it return. What waits while an upload is under way
makes up the next object, as in the log's own group commit.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry

from des.clock import Clock
from des.cluster import NotShardOwnerError, not_shard_owner
from des.config import Settings
from des.db.catalog import Catalog, FencedError, ShardClaim
from des.db.rows import LogSegmentId, LogSegmentRow
from des.errors import DesError, DisabledError, UnavailableError
from des.ingest.errors import LogCorruptError, LogRecordGoneError
from des.ingest.log_reader import LogReader
from des.ingest.shipped import (
    SHIPPED_SEQS,
    SHIPPED_SHA256,
    SHIPPED_SHARD_BITS,
    encode_shipped,
    shipped_key,
    shipped_size,
)
from des.ingest.values import OpenFile
from des.monitoring.shipping_metrics import ShippingMetrics
from des.packer.settled_create import ForeignObjectError, settled_create
from des.packer.shipments import Shipments
from des.packer.shipped_release import ShippedRelease
from des.packer.stored_waits import StoredWaits
from des.storage.object_store import ObjectInfo, ObjectStore

_log = structlog.get_logger(__name__)

FILES_MAX: Final = 4096
"""Files in one segment: bounds what one row of the catalog speaks for."""
INLINE_BYTES: Final = 256 << 10
"""A segment up to this long is encoded on the event loop, a longer one in a thread."""


class NotStoredYetError(UnavailableError):
    """The file is durable on this node's disk; whether the object store has it is not known."""

    reason = "BACKEND_UNAVAILABLE"


class NodeClosingError(UnavailableError):
    """The file is durable on this node's disk, and nothing more is shipped by this process."""

    reason = "SHUTTING_DOWN"


@dataclass(slots=True)
class _Segment:
    """An object on its way. Its bytes never change, so each step may be repeated."""

    id: LogSegmentId
    key: str
    body: bytes
    sha256: str
    files: list[OpenFile]
    seqs: str
    """Numbers of its first and last file in the log, as its metadata say them."""
    stored: ObjectInfo | None = None

    def size(self) -> int:
        return len(self.body)

    def pread(self, size: int, offset: int) -> bytes:
        return self.body[offset : offset + size]


class LogShipper:
    """Ships what puts wait for, and cleans up behind."""

    def __init__(
        self,
        *,
        settings: Settings,
        node: UUID,
        boot_epoch: int,
        log: LogReader,
        store: ObjectStore,
        catalog: Catalog,
        clock: Clock,
        claim: Callable[[Iterable[int]], ShardClaim],
        holds: Callable[[int], bool],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._settings = settings
        self._node = node
        self._boot_epoch = boot_epoch
        self._log = log
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._claim = claim
        self._random_bytes = random_bytes
        self.shipments = Shipments(holds)
        self._release = ShippedRelease(
            settings=settings,
            shipments=self.shipments,
            store=store,
            catalog=catalog,
            clock=clock,
            claim=claim,
        )
        self._metrics = ShippingMetrics()
        self.waits = StoredWaits()
        """The files that puts wait for."""
        self._unfinished: deque[_Segment] = deque()
        self._next_number = 1
        self.last_error = ""
        """What kept the last segment that failed; empty after one that did not."""

    # --- what puts ask ----------------------------------------------------------------------

    async def check_served(self) -> None:
        """Refuse to promise what the object store cannot keep.

        Raises:
            DisabledError: losing the node's disk would lose the store.
            UnavailableError: what the store honours is not known now.
        """
        if self._settings.stored.any_store or (await self._store.capabilities()).survives_node:
            return
        raise DisabledError(
            "durability 'stored' is not served by this store: its objects lie on the node's own disk",
            feature="stored_ack",
        )

    def is_stored(self, file: OpenFile) -> bool:
        """Whether a recorded segment holds the file."""
        return self.shipments.hold(file)

    async def wait_stored(self, files: Sequence[OpenFile]) -> list[DesError | None]:
        """Return when each file is stored, with None in its place, or why that is not known.

        Nothing is undone by giving up: the files stay in the log and go on their way.
        """
        ways = [None if self.is_stored(file) else self.waits.enter(file) for file in files]
        if open_ways := {way for way in ways if way is not None and not way.done()}:
            await asyncio.wait(open_ways, timeout=self._settings.stored.wait_s)
        return [
            None if way is None else self._outcome(file, way) for file, way in zip(files, ways, strict=True)
        ]

    def sealed(self, files: Iterable[OpenFile]) -> None:
        """Say that a stored container holds these files: nobody need wait for a segment any more."""
        files = list(files)
        self.shipments.seal(files)
        for file in files:
            self.waits.settle(file)

    def pressure(self) -> float:
        """Return how much of the room for segments with unsealed files is taken: 1 is all of it."""
        return self.shipments.unsealed_count() / self._settings.stored.segments_max

    def show_metrics(self, registry: CollectorRegistry) -> None:
        """Show in `registry` what is shipped; once."""
        self._metrics.register(
            registry, waiting=lambda: len(self.waits), unsealed=self.shipments.unsealed_count
        )

    def withdraw(self, files: Iterable[OpenFile]) -> None:
        """Ship these files no more: another node owns their shards, and decides about them."""
        for file in files:
            self.waits.settle(file, not_shard_owner(file.shard, "was taken by another node"))

    def settled(self, files: Iterable[OpenFile]) -> None:
        """Say that the log has let go of these files: no segment is needed for them any more."""
        files = list(files)
        self.sealed(files)
        self.shipments.settle(files)

    async def clean(self) -> None:
        """Release what no file needs any more; see `ShippedRelease.step`."""
        await self._release.step()

    def _outcome(self, file: OpenFile, future: "asyncio.Future[None]") -> DesError | None:
        if not future.done():
            cause = f": {self.last_error}" if self.last_error else ""
            return NotStoredYetError(
                f"file {file.name!r} is on this node's disk; whether the object store has it is not known "
                f"after {self._settings.stored.wait_s} s{cause}",
                name=file.name,
                durability="local",
            )
        error = future.exception()
        if error is None:
            return None
        assert isinstance(error, DesError)
        twin = type(error)(str(error))  # one object raised to many would collect all their tracebacks
        twin.details = error.details
        return twin

    # --- shipping ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Ship and clean up until cancelled. A failure is kept, shown and retried."""
        self.waits.begin()
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._settings.stored.uploads):
                    tasks.create_task(self._ship_for_ever())
                tasks.create_task(self._release.run())
        finally:
            self.waits.end(
                NodeClosingError("nothing is shipped any more; what was put is on this node's disk")
            )

    async def _ship_for_ever(self) -> None:
        while True:
            await self.waits.work.wait()
            try:
                if not await self.step():
                    self.waits.work.clear()
            except DesError as error:
                _log.warning("log segment not shipped, will be repeated", error=str(error))
                await self._clock.sleep(self._settings.stored.retry_s)

    async def step(self) -> bool:
        """Ship one segment, one that failed before first; return whether there was one.

        Raises:
            DesError: it is kept and repeated, byte for byte.
        """
        segment = self._unfinished.popleft() if self._unfinished else await self._next_segment()
        if segment is None:
            return False
        try:
            await self._ship(segment)
        except BaseException as error:
            self.last_error = str(error)
            self._metrics.failed()
            self._unfinished.append(segment)
            self.waits.work.set()
            raise
        self.last_error = ""
        return True

    async def _ship(self, segment: _Segment) -> None:
        segment.files = [file for file in segment.files if file in self.waits]
        if not segment.files:
            return  # all in containers meanwhile: an object that nobody recorded is nobody's
        if segment.stored is None:
            identity = {SHIPPED_SHA256: segment.sha256}
            try:
                segment.stored = await settled_create(
                    self._store,
                    segment.key,
                    segment,
                    metadata={
                        "des-kind": "log",
                        SHIPPED_SEQS: segment.seqs,
                        SHIPPED_SHARD_BITS: str(self._settings.shard_bits),
                        **identity,
                    },
                    identity=identity,
                )
            except ForeignObjectError as error:
                _log.error("a shipped segment's key holds another object", error=str(error))
                self.waits.put_back(segment.files)  # they go with the next one
                segment.files = []
                raise
        await self._record(segment, segment.stored)

    async def _record(self, segment: _Segment, info: ObjectInfo) -> None:
        """Record the segment for the shards that are still ours; fail the files of the others."""
        while segment.files:
            shards = sorted({file.shard for file in segment.files})
            row = LogSegmentRow(
                id=segment.id,
                key=segment.key,
                etag=info.etag,
                sha256=segment.sha256,
                size=len(segment.body),
                first_seq=min(file.seq for file in segment.files),
                last_seq=max(file.seq for file in segment.files),
                file_count=len(segment.files),
                days=tuple(sorted({str(file.day) for file in segment.files})),
                shards=tuple(shards),
                bits=self._settings.shard_bits,
            )
            try:
                row = await self._catalog.record_log_segment(row, self._claim(shards))
            except (FencedError, NotShardOwnerError) as error:
                lost = int(error.details.get("shard_id", shards[0]))
                for file in segment.files:
                    if file.shard == lost:
                        self.waits.settle(file, error)
                segment.files = [file for file in segment.files if file.shard != lost]
                continue
            # In one step with the acknowledgement: a file sealed meanwhile is let go by `settled`.
            self.shipments.add(row, (file for file in segment.files if file in self.waits))
            self._metrics.shipped(files=len(segment.files), size=len(segment.body))
            for file in segment.files:
                self.waits.settle(file)
            return

    async def _next_segment(self) -> _Segment | None:
        taken: list[tuple[OpenFile, list[bytes]]] = []
        size = 0
        while len(taken) < FILES_MAX and (file := self.waits.first()) is not None:
            size += shipped_size(file)
            if taken and size > self._settings.stored.object_bytes:
                break
            self.waits.take()
            try:
                pieces = await self._read(file)
            except DesError:
                if taken:
                    break  # it was put behind all others, which need not wait for it
                raise
            if pieces is not None:
                taken.append((file, pieces))
        if not taken:
            return None
        taken.sort(key=lambda pair: pair[0].seq)
        number, self._next_number = self._next_number, self._next_number + 1
        body, sha256 = await self._encode(taken, number, inline=size <= INLINE_BYTES)
        return _Segment(
            LogSegmentId(str(self._node), self._boot_epoch, number),
            self._key(number),
            body,
            sha256,
            [file for file, _ in taken],
            f"{taken[0][0].seq}-{taken[-1][0].seq}",
        )

    async def _read(self, file: OpenFile) -> list[bytes] | None:
        """Return the file's bytes, extent by extent; None when it need not or cannot be shipped."""
        try:
            return [await self._log.read(extent) for extent in file.extents]
        except LogRecordGoneError:
            self.waits.settle(file)  # the log lets go only of what a stored container holds
        except LogCorruptError as error:
            self.waits.settle(file, error)
        except DesError:
            self.waits.postpone(file)
            raise
        return None

    async def _encode(
        self, taken: Sequence[tuple[OpenFile, Sequence[bytes]]], number: int, *, inline: bool
    ) -> tuple[bytes, str]:
        def work() -> tuple[bytes, str]:
            body = encode_shipped(
                taken,
                node=self._node,
                boot_epoch=self._boot_epoch,
                number=number,
                salt=int.from_bytes(self._random_bytes(4), "little"),
                time_ms=self._clock.now_ms(),
            )
            return body, hashlib.sha256(body).hexdigest()

        return work() if inline else await asyncio.to_thread(work)

    def _key(self, number: int) -> str:
        return shipped_key(
            self._settings.object_prefix, node=self._node, boot_epoch=self._boot_epoch, number=number
        )
