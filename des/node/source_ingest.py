"""The packing of source rows: claim, fetch, append, and mark `packed` once the container is committed.

The claim is the outbox (docs/adr/0011-ingest-from-databases.md): until a row is marked it stays claimed, and
whoever holds its shard next asks the store for its name first. So every step may be repeated by anyone.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import google_crc32c
import structlog

from des.clock import Clock
from des.cluster import NotShardOwnerError, coming_home
from des.db.catalog import ContainerRow, ContainerState
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
from des.ingest.values import OpenFile
from des.monitoring.ingest_metrics import IngestMetrics
from des.naming import InvalidNameError
from des.node.put_result import PutResult
from des.node.upload import Upload
from des.node.write_rules import FileTooLargeError
from des.retrieval import OpenedFile
from des.sources import ClaimedRow, FailReason, PackedRow
from des.sources.config import PackerConfig
from des.sources.objects import OpenObject
from des.sources.provider import MultiSourceFileProvider, RowFailedError
from des.sources.rows import RowId

_log = structlog.get_logger(__name__)

POSTPONE_S: Final = 10.0
"""How long a row waits that failed for no fault of its own."""
MARK_BATCH: Final = 500
"""Rows marked packed in one transaction."""
ADOPTED_AT_ONCE: Final = 1000
"""Rows of predecessors that are looked after in one round."""
SEALED_AT_ONCE: Final = 8
"""Shards sealed early when too many rows wait for their containers."""


class IngestNode(Protocol):
    """What packing asks of a node. `Node` is one."""

    def tenures(self) -> dict[int, int]:
        """Return the shards that this node serves now, each with the epoch of its lock."""
        ...

    def is_open(self, name: str) -> bool:
        """Return whether the file is in this node's log and not yet readable from a container."""
        ...

    def open_counts(self) -> dict[int, int]:
        """Return how many files each shard has open."""
        ...

    async def put_bytes(self, spec: FileSpec, data: bytes, crc32c: int) -> PutResult:
        """Write one whole file."""
        ...

    async def begin_put(self, spec: FileSpec) -> Upload:
        """Start a file that arrives in parts."""
        ...

    async def stat(self, name: str) -> FileInfo:
        """Return what is known of a file."""
        ...

    async def open_file(self, name: str) -> OpenedFile:
        """Find a file to read."""
        ...

    async def seal_shard(self, shard: int) -> list[ContainerRow]:
        """Seal what a shard holds open."""
        ...

    def on_files_stored(self, listener: Callable[[ContainerRow, Sequence[OpenFile]], None]) -> None:
        """Have `listener` told of every container that this node commits."""
        ...


@dataclass(slots=True)
class _Held:
    """A claimed row whose file is in the log, waiting for its container."""

    row: ClaimedRow
    epoch: int
    """Of its shard's lock, when it was claimed."""
    sha256: str
    renew_at: float
    """When its claim is to be renewed, in monotonic seconds."""


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
        self._held: dict[str, _Held] = {}
        self._working: dict[str, tuple[ClaimedRow, int]] = {}
        """Rows being fetched and appended, with the epoch of their shard, by name."""
        self._outbox: dict[str, deque[PackedRow]] = {}
        """Rows to be marked packed, by source."""
        self._moved: list[_Held] = []
        """Rows whose files are in a container that was replaced since."""
        self._adopted: dict[int, int] = {}
        """Shards whose predecessors' claims were taken over, with the epoch in which they were."""
        self._expired_check_at = clock.monotonic() + config.expired_check_s
        self._paused_until = 0.0
        self._settling = asyncio.Lock()
        self._stopping = asyncio.Event()
        self.error = ""
        """What the last round failed with; empty when it did not."""
        node.on_files_stored(self._on_stored)

    # --- rounds -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Pack until `stop`, which lets the round under way end. A failure is shown, waited out, retried."""
        keeping = asyncio.ensure_future(self._keep())
        try:
            while not self._stopping.is_set():
                try:
                    worked = await self.step()
                    self.error = ""
                except DesError as error:
                    self.error = str(error)
                    _log.warning("a round of packing failed", error=str(error), reason=error.reason)
                    worked = 0
                if not worked:
                    await self._pause(self._config.idle_s)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

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
        tenures = self._node.tenures()
        self._drop_lost(tenures)
        rows = await self._claim(tenures)
        await asyncio.gather(*(self._pack(row, tenures[row.shard]) for row in rows))
        await self.settle()
        if len(self._held) + len(self._working) >= self._config.claims:
            await self._seal_early()
        return len(rows)

    async def settle(self) -> None:
        """Mark rows whose containers are committed, and renew the claims of the others."""
        async with self._settling:
            await self._look_again()
            await self._mark()
        now = self._clock.monotonic()
        due = [held for held in self._held.values() if held.renew_at <= now]
        if due:
            for held in due:
                held.renew_at = now + self._provider.timeout_s(held.row.source) / 2
            await self._provider.renew([held.row for held in due])
        self._metrics.held.set(len(self._held))

    @property
    def waiting(self) -> int:
        """Rows that are claimed and not marked."""
        waiting = sum(map(len, self._outbox.values()))
        return len(self._held) + len(self._working) + len(self._moved) + waiting

    # --- claims -----------------------------------------------------------------------------

    def _drop_lost(self, tenures: dict[int, int]) -> None:
        """Forget rows of shards that somebody else has, or had, since: their claims are the holder's."""
        for name, held in list(self._held.items()):
            if tenures.get(held.row.shard) != held.epoch:
                del self._held[name]
                self._metrics.rows(held.row.source, "lost")
        for shard, epoch in list(self._adopted.items()):
            if tenures.get(shard) != epoch:
                del self._adopted[shard]

    async def _claim(self, tenures: dict[int, int]) -> list[ClaimedRow]:
        room = self._config.claims - len(self._held) - len(self._working)
        if room <= 0 or self._clock.monotonic() < self._paused_until:
            return []
        limit = min(room, ADOPTED_AT_ONCE)
        rows: list[ClaimedRow] = []
        fresh = [shard for shard, epoch in tenures.items() if self._adopted.get(shard) != epoch]
        known = self._known()
        if fresh:
            found, complete = await self._provider.adopt(fresh, known=known, predecessors=True, limit=limit)
            rows += found
            if complete:
                self._adopted.update((shard, tenures[shard]) for shard in fresh)
        if self._clock.monotonic() >= self._expired_check_at:
            self._expired_check_at = self._clock.monotonic() + self._config.expired_check_s
            found, _ = await self._provider.adopt(list(tenures), known=known, predecessors=False, limit=limit)
            rows += found
        if not rows:
            rows = await self._provider.claim(sorted(tenures), limit=room)
        taken: list[ClaimedRow] = []
        for row in rows:
            self._metrics.rows(row.source, "claimed")
            if not row.name:
                await self._fail(row, FailReason.BAD_NAME, "the row lost its name")
            elif row.shard not in tenures or row.name in self._working or row.name in self._held:
                # A name is a file, and another row of this name is under way.
                await self._provider.release([row], wait_s=POSTPONE_S)
            else:
                self._working[row.name] = (row, tenures[row.shard])
                taken.append(row)
        return taken

    def _known(self) -> dict[str, set[RowId]]:
        known: dict[str, set[RowId]] = {}
        held = (one.row for one in self._held.values())
        working = (row for row, _ in self._working.values())
        marked = (packed.row for waiting in self._outbox.values() for packed in waiting)
        for rows in (held, working, marked):
            for row in rows:
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
        begun = self._clock.monotonic()
        async with self._provider.fetch(row) as found:
            if found.first or not found.size:
                fetched = self._clock.monotonic()
                self._metrics.spent("fetch", fetched - begun)
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
            renew_at = self._clock.monotonic() + self._provider.timeout_s(row.source) / 2
            self._held[row.name] = _Held(row, epoch, sha256, renew_at)
            return
        if info.state is not FileState.STORED:
            # Sealed while it was appended.
            info = await self._node.stat(row.name)
        if info.state is not FileState.STORED or info.placement is None:
            raise NotYetStoredError(f"file {row.name!r} is neither open here nor stored", name=row.name)
        self._settle_later(row, info.placement.container_id, sha256)

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

    # --- after the commit -------------------------------------------------------------------

    def _on_stored(self, container: ContainerRow, files: Sequence[OpenFile]) -> None:
        for file in files:
            held = self._held.pop(file.name, None)
            if held is None:
                continue
            if container.state is ContainerState.STORED:
                self._settle_later(held.row, container.container_id, held.sha256)
            else:
                self._moved.append(held)

    async def _look_again(self) -> None:
        """Ask where files are whose container was replaced by another before this process heard of it."""
        while self._moved:
            held = self._moved[-1]
            info = await self._node.stat(held.row.name)
            self._moved.pop()
            if info.placement is not None:
                self._settle_later(held.row, info.placement.container_id, held.sha256)

    def _settle_later(self, row: ClaimedRow, container_id: str, sha256: str) -> None:
        waiting = self._outbox.setdefault(row.source, deque())
        waiting.append(PackedRow(row, container_id, sha256))

    async def _mark(self) -> None:
        """Mark what the outbox holds; a source that does not answer keeps its rows for the next time."""
        await _all(self._mark_source(name, waiting) for name, waiting in self._outbox.items())

    async def _mark_source(self, name: str, waiting: deque[PackedRow]) -> None:
        while waiting:
            batch = [waiting[place] for place in range(min(MARK_BATCH, len(waiting)))]
            settled = await self._provider.mark_packed(name, batch)
            if settled is None:
                return
            for _ in batch:
                waiting.popleft()
            for outcome in ("packed", "gone", "changed", "lost"):
                self._metrics.rows(name, outcome, getattr(settled, outcome))

    async def _seal_early(self) -> None:
        """Make room for more claims: seal the shards with the most files."""
        counts = self._node.open_counts()
        fullest = sorted(counts, key=lambda shard: counts[shard], reverse=True)[:SEALED_AT_ONCE]
        for shard in fullest:
            if counts[shard]:
                await self._node.seal_shard(shard)


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


async def _all(work: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*work)
