"""The packing of source rows: claim, fetch, append, and mark `packed` once the container is committed.

The claim is the outbox (docs/adr/0011-ingest-from-databases.md): until a row is marked it stays claimed, and
whoever holds its shard next asks the store for its name first. So every step may be repeated by anyone.
"""

import asyncio
import hashlib
import itertools
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import google_crc32c
import structlog

from des.clock import Clock
from des.cluster import NotShardOwnerError, coming_home
from des.errors import (
    AlreadyExistsError,
    CorruptError,
    DesError,
    ExhaustedError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from des.files import FileInfo, FileSpec, FileState
from des.monitoring.ingest_metrics import IngestMetrics
from des.naming import InvalidNameError
from des.node.ingest_node import IngestNode
from des.node.put_result import PutResult
from des.node.waiting_rows import WaitingRows
from des.node.write_rules import FileTooLargeError
from des.sources import ClaimedRow, FailReason
from des.sources.config import PackerConfig
from des.sources.objects import OpenObject
from des.sources.provider import MultiSourceFileProvider, RowFailedError
from des.sources.rows import RowId

_log = structlog.get_logger(__name__)

POSTPONE_S: Final = 10.0
"""How long a row waits that failed for no fault of its own."""
CLAIMED_AHEAD: Final = 4
"""Rows are claimed while fewer than so many wait for each fetch that may run."""
ADOPTED_AT_ONCE: Final = 1000
"""Rows of predecessors that are looked after in one round."""
SEALED_AT_ONCE: Final = 8
"""Shards sealed early when too many rows wait for their containers."""


class SourceIngest:
    """Packs the rows of the shards that a node serves. One event loop owns it."""

    def __init__(
        self,
        node: IngestNode,
        provider: MultiSourceFileProvider,
        *,
        config: PackerConfig,
        clock: Clock,
        metrics: IngestMetrics,
    ) -> None:
        self._node = node
        self._provider = provider
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._waiting = WaitingRows(node, provider, clock=clock, metrics=metrics)
        self._working: dict[str, tuple[ClaimedRow, int]] = {}
        """Rows being fetched and appended, with the epoch of their shard, by name."""
        self._adopted: dict[int, int] = {}
        """Shards whose predecessors' claims were taken over, with the epoch in which they were."""
        self._expired_check_at = clock.monotonic() + config.expired_check_s
        self._paused_until = 0.0
        self._stopping = asyncio.Event()
        self.error = ""
        """What the last round failed with; empty when it did not."""

    # --- rounds -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Pack until `stop`, which lets the rows under way end. A failure is shown, waited out, retried.

        The next rows are claimed while the last ones are still being fetched.
        """
        keeping = asyncio.ensure_future(self._keep())
        packing: set[asyncio.Task[None]] = set()
        room = asyncio.Event()
        ahead = self._config.fetches * CLAIMED_AHEAD

        def done(task: asyncio.Task[None]) -> None:
            packing.discard(task)
            if len(packing) < ahead:
                room.set()

        try:
            while not self._stopping.is_set():
                begun = await self._begin_round()
                for work in begun:
                    task = asyncio.ensure_future(work)
                    packing.add(task)
                    task.add_done_callback(done)
                if not begun:
                    await self._pause(self._config.idle_s)
                elif len(packing) >= ahead:
                    room.clear()
                    await room.wait()
            await asyncio.gather(*packing)
        finally:
            for task in [*packing, keeping]:
                task.cancel()
            await asyncio.gather(*packing, keeping, return_exceptions=True)

    async def _begin_round(self) -> list[Coroutine[Any, Any, None]]:
        try:
            await self._make_room()
            begun = await self._begin()
        except DesError as error:
            self.error = str(error)
            _log.warning("a round of packing failed", error=str(error), reason=error.reason)
            return []
        self.error = ""
        return begun

    async def close(self) -> None:
        """Mark what is stored, and give all connections back."""
        try:
            await self.settle()
        finally:
            await self._provider.close()

    def troubles(self) -> dict[str, str]:
        """Return the sources that do not answer, and the last round of packing where it failed."""
        return self._provider.errors() | ({"packing": self.error} if self.error else {})

    def stop(self) -> None:
        """Claim no more; `run` returns once the rows under way are in the log or given back."""
        self._stopping.set()

    async def _pause(self, seconds: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        waiting = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([sleeping, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waiting.cancel()

    async def _keep(self) -> None:
        """Renew claims and mark what is stored, beside the rounds, which may take long."""
        while True:
            await self._clock.sleep(min(1.0, self._config.idle_s))
            try:
                await self.settle()
            except DesError as error:
                self.error = str(error)
                _log.warning("rows are not settled, will be tried again", error=str(error))

    async def step(self) -> int:
        """Claim rows, fetch and append their files, mark what is stored; return how many rows were claimed.

        Raises:
            DesError: what the node or a container failed with; the rows stay claimed or were given back.
        """
        begun = await self._begin()
        await asyncio.gather(*begun)
        await self.settle()
        await self._make_room()
        return len(begun)

    async def _begin(self) -> list[Coroutine[Any, Any, None]]:
        """Claim rows, and return the work of packing each."""
        tenures = self._node.tenures()
        for source in self._waiting.drop_lost(tenures):
            self._metrics.rows(source, "lost")
        for shard, epoch in list(self._adopted.items()):
            if tenures.get(shard) != epoch:
                del self._adopted[shard]
        return [self._pack(row, tenures[row.shard]) for row in await self._claim(tenures)]

    async def _make_room(self) -> None:
        """Seal the shards with the most files while as many rows are claimed as may be."""
        if self.claimed < self._config.claims:
            return
        counts = self._node.open_counts()
        for shard in sorted(counts, key=lambda shard: counts[shard], reverse=True)[:SEALED_AT_ONCE]:
            if counts[shard]:
                await self._node.seal_shard(shard)

    async def settle(self) -> None:
        """Mark rows whose containers are committed, and renew the claims of the others."""
        await self._waiting.settle()

    @property
    def claimed(self) -> int:
        """Rows whose files are not in a committed container yet."""
        return self._waiting.held + len(self._working)

    @property
    def waiting(self) -> int:
        """Rows that are claimed and not marked."""
        return len(self._waiting) + len(self._working)

    # --- claims -----------------------------------------------------------------------------

    async def _claim(self, tenures: dict[int, int]) -> list[ClaimedRow]:
        room = self._config.claims - self.claimed
        if room <= 0 or self._clock.monotonic() < self._paused_until:
            return []
        limit = min(room, ADOPTED_AT_ONCE)
        rows: list[ClaimedRow] = []
        fresh = [shard for shard, epoch in tenures.items() if self._adopted.get(shard) != epoch]
        if fresh:
            found, complete = await self._provider.adopt(
                fresh, known=self._known(), predecessors=True, limit=limit
            )
            rows += found
            if complete:
                self._adopted.update((shard, tenures[shard]) for shard in fresh)
        if self._clock.monotonic() >= self._expired_check_at:
            self._expired_check_at = self._clock.monotonic() + self._config.expired_check_s
            found, _ = await self._provider.adopt(
                list(tenures), known=self._known(rows), predecessors=False, limit=limit
            )
            rows += found
        if not rows:
            rows = await self._provider.claim(sorted(tenures), limit=room)
        taken: list[ClaimedRow] = []
        for row in rows:
            self._metrics.rows(row.source, "claimed")
            if not row.name:
                await self._fail(row, FailReason.BAD_NAME, "the row lost its name")
            elif row.shard not in tenures or row.name in self._working or row.name in self._waiting:
                # A name is a file, and another row of this name is under way.
                await self._provider.release([row], wait_s=POSTPONE_S)
            else:
                self._working[row.name] = (row, tenures[row.shard])
                taken.append(row)
        return taken

    def _known(self, adopted: Sequence[ClaimedRow] = ()) -> dict[str, set[RowId]]:
        """Return the rows that this process works on, by source; as many steps as there are."""
        known: dict[str, set[RowId]] = {}
        working = (row for row, _ in self._working.values())
        for row in itertools.chain(self._waiting.rows(), working, adopted):
            known.setdefault(row.source, set()).add(row.id)
        return known

    # --- one row ----------------------------------------------------------------------------

    async def _pack(self, row: ClaimedRow, epoch: int) -> None:
        """Bring one row's file into the log; whatever fails, fails for this row alone."""
        try:
            await self._store(row, epoch)
        except RowFailedError as error:
            await self._fail(row, error.why, str(error))
        except UnavailableError as error:
            # Not the row's fault: the objects, the node or the catalog.
            await self._postpone(row, error)
        except ExhaustedError as error:
            self._paused_until = self._clock.monotonic() + POSTPONE_S
            await self._postpone(row, error)
        except CorruptError as error:
            # The store's own copy is damaged; the row waits until an operator has looked.
            _log.exception("a stored file is damaged", source=row.source, row=str(row.id), name=row.name)
            await self._postpone(row, error)
        except DesError as error:
            await self._fail(row, _reason(error), str(error))
        except Exception as error:  # noqa: BLE001  shown, and counted against the row
            # A defect must not stop the batch; the row shows it.
            _log.exception("a row failed for an unknown cause", source=row.source, row=str(row.id))
            await self._fail(row, FailReason.REFUSED, f"{type(error).__name__}: {error}")
        finally:
            self._working.pop(row.name, None)

    async def _store(self, row: ClaimedRow, epoch: int) -> None:
        if row.reclaimed and await self._is_there(row, epoch):
            return
        spec = FileSpec(name=row.name, content_type=row.content_type, metadata=row.metadata)
        async with self._provider.fetch(row) as found:
            if found.first or not found.size:
                fetched = self._clock.monotonic()
                sha256 = hashlib.sha256(found.first).hexdigest()
                with coming_home():
                    result = await self._node.put_bytes(
                        _sized(spec, found.size), found.first, google_crc32c.value(found.first)
                    )
                self._metrics.spent("append", self._clock.monotonic() - fetched)
            else:
                result, sha256 = await self._stream(spec, found)
            self._metrics.fetched(row.source, found.size)
        await self._hold(row, epoch, sha256, result.file, known=result.already_existed)

    # Writes are marked as coming home: another node that is away may have the same file, which it got from
    # the same object. It was acknowledged to nobody, and when the node is back its copy finds this one.

    async def _stream(self, spec: FileSpec, found: OpenObject) -> tuple[PutResult, str]:
        """Pass a long object through, part by part."""
        sha256 = hashlib.sha256()
        upload = await self._node.begin_put(_sized(spec, found.size))
        try:
            while part := await found.read():
                await asyncio.gather(asyncio.to_thread(sha256.update, part), upload.write(part))
            with coming_home():
                return await upload.finish(None), sha256.hexdigest()
        except BaseException:
            await upload.abort()
            raise

    async def _is_there(self, row: ClaimedRow, epoch: int) -> bool:
        """Return whether the store has the row's file already, and hold or settle it if so."""
        try:
            info = await self._node.stat(row.name)
        except (NotFoundError, NotShardOwnerError):
            # The second: a node that is away may have it, which the write below need not wait for.
            return False
        # Its bytes are read: what is marked packed was seen to be whole.
        sha256 = await self._sha256_of(row.name)
        await self._hold(row, epoch, sha256, info, known=True)
        return True

    async def _sha256_of(self, name: str) -> str:
        digest = hashlib.sha256()
        opened = await self._node.open_file(name)
        async for part in opened.read(0, opened.info.size):
            digest.update(part)
        return digest.hexdigest()

    async def _hold(self, row: ClaimedRow, epoch: int, sha256: str, info: FileInfo, *, known: bool) -> None:
        """Wait for the file's container, or settle the row at once where it is in one."""
        self._metrics.rows(row.source, "known" if known else "appended")
        if self._node.is_open(row.name):
            self._waiting.hold(row, epoch, sha256)
            return
        if info.state is not FileState.STORED:
            # Sealed while it was appended.
            info = await self._node.stat(row.name)
        if info.state is not FileState.STORED or info.placement is None:
            raise NotYetStoredError(f"file {row.name!r} is neither open here nor stored", name=row.name)
        self._waiting.settle_later(row, info.placement.container_id, sha256)

    async def _fail(self, row: ClaimedRow, reason: FailReason, text: str) -> None:
        final = await self._provider.fail(row, reason, text)
        self._metrics.rows(row.source, "failed" if final else "postponed")
        _log.warning(
            "row failed", source=row.source, row=str(row.id), reason=reason.value, error=text, final=final
        )

    async def _postpone(self, row: ClaimedRow, error: DesError) -> None:
        self.error = str(error)
        self._metrics.rows(row.source, "postponed")
        _log.info("row postponed", source=row.source, row=str(row.id), error=str(error))
        await self._provider.release([row], wait_s=POSTPONE_S)


class NotYetStoredError(UnavailableError):
    """A file that was just written is neither open nor stored; its shard moved on meanwhile."""


def _sized(spec: FileSpec, size: int) -> FileSpec:
    return FileSpec(name=spec.name, content_type=spec.content_type, metadata=spec.metadata, size=size)


def _reason(error: DesError) -> FailReason:
    """Return why the store refuses a file."""
    match error:
        case InvalidNameError():
            return FailReason.BAD_NAME
        case FileTooLargeError():
            return FailReason.TOO_LARGE
        case InvalidInputError():
            return FailReason.BAD_METADATA
        case AlreadyExistsError():
            return FailReason.NAME_CONFLICT
        case _:
            return FailReason.REFUSED
