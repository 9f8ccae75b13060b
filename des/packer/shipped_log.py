"""Replay of shipped segments: files that a node made STORED before it went (docs/log.md, section 7).

The shards' next owner appends the files to its own log under their own names, before it serves the
shards. Replay may be repeated, whole or in part: a file that is open, in a container or deleted is
left as it is.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeAlias
from uuid import UUID

import google_crc32c
import structlog

from des.clock import Clock
from des.db.catalog import Catalog, ShardClaim
from des.db.rows import LogSegmentRow, LogSegmentState
from des.errors import CorruptError, DesError
from des.ingest.log import IngestLog
from des.ingest.open_index import OpenIndex
from des.ingest.shipped import ShippedFile, ShippedSegmentError, decode_shipped, shipped_key
from des.ingest.values import FileDraft, OpenFile
from des.naming import consistent_hash
from des.packer.segment_row import segment_row
from des.packer.shipments import Shipments
from des.storage.object_store import NoSuchObjectError, ObjectChangedError, ObjectStore

_log = structlog.get_logger(__name__)

RETRY_S: Final = 5.0
READ_BYTES: Final = 8 << 20
"""Of a segment, in one request."""
AHEAD: Final = 16
"""Segments that are read at the same time: a lost node may leave thousands, and its shards wait for all."""
AHEAD_BYTES: Final = 64 << 20
"""Of segments that are read and not yet replayed; a longer one is read alone."""


@dataclass(slots=True)
class Replay:
    """What a replay found."""

    segments: int = 0
    files: int = 0
    """Appended to this node's log."""
    known: int = 0
    """Left as they were: open, in a container, or deleted."""
    damaged: list[str] = field(default_factory=list)
    """Why a segment could not be believed: a name that is not found may have been in it."""


async def read_segment(store: ObjectStore, row: LogSegmentRow) -> list[ShippedFile]:
    """Return the files of a recorded segment, every byte verified.

    Raises:
        ShippedSegmentError: the object is gone, or is not what was recorded.
        UnavailableError: the store did not answer; nothing is known.
    """
    parts: list[bytes] = []
    try:
        for start in range(0, row.size, READ_BYTES):
            stop = min(row.size, start + READ_BYTES)
            parts.append(await store.get_range(row.key, start, stop, etag=row.etag))
    except (NoSuchObjectError, ObjectChangedError) as error:
        raise ShippedSegmentError(
            f"shipped segment {row.key!r} is recorded and not there: {error}"
        ) from error
    return decode_shipped(
        b"".join(parts), node=UUID(row.id.node), boot_epoch=row.id.boot_epoch, number=row.id.number
    )


ReadFiles: TypeAlias = Callable[[], Awaitable[list[ShippedFile]]]


async def read_ahead(
    store: ObjectStore, rows: Sequence[LogSegmentRow]
) -> AsyncGenerator[tuple[LogSegmentRow, ReadFiles], None]:
    """Yield segments in their order, each with what waits for its files: `read_segment`, begun before."""
    waiting = deque(rows)
    begun: deque[tuple[LogSegmentRow, asyncio.Task[list[ShippedFile]]]] = deque()
    try:
        while waiting or begun:
            while (
                waiting
                and len(begun) < AHEAD
                and (not begun or sum(row.size for row, _ in begun) + waiting[0].size <= AHEAD_BYTES)
            ):
                row = waiting.popleft()
                begun.append((row, asyncio.create_task(read_segment(store, row))))
            row, task = begun[0]
            yield row, partial(asyncio.shield, task)
            begun.popleft()
    finally:
        for _, task in begun:
            task.cancel()
        await asyncio.gather(*(task for _, task in begun), return_exceptions=True)


class ShippedLog:
    """Brings shipped files into this node's log."""

    def __init__(
        self,
        *,
        node: str,
        boot_epoch: int,
        catalog: Catalog,
        store: ObjectStore,
        log: IngestLog,
        open_index: OpenIndex,
        shipments: Shipments,
        find: Callable[[str], Awaitable[object | None]],
        claim: Callable[[Iterable[int]], ShardClaim],
        holds: Callable[[int], bool],
        shard_bits: int,
        object_prefix: str,
        clock: Clock,
    ) -> None:
        """Connect the parts.

        Args:
            node: UUID of this node.
            boot_epoch: number of this start.
            catalog: knows the segments.
            store: has them.
            log: takes their files.
            open_index: says which are there.
            shipments: answers for the segments from then on.
            find: returns None for a name that is neither open nor in a container.
            claim: what a write for some shards has to show.
            holds: whether this node owns a shard.
            shard_bits: of the store.
            object_prefix: the setting of that name.
            clock: for the waits between attempts.
        """
        self._node = node
        self._boot_epoch = boot_epoch
        self._clock = clock
        self._claim = claim
        self._holds = holds
        self._prefix = object_prefix
        self._catalog = catalog
        self._store = store
        self._log = log
        self._open_index = open_index
        self._shipments = shipments
        self._find = find
        self._bits = shard_bits
        self._deleted: dict[tuple[int, int], frozenset[str]] = {}

    async def take_over(self, shards: Collection[int]) -> Replay:
        """Append what held segments have of `shards`, which this node owns, and answer for the segments.

        To be done before the shards are served. Costs one request per segment of up to `READ_BYTES`, `AHEAD`
        of them at once; none for this node's own segments whose records its log still has. A segment that
        cannot be believed is reported, and stays as it is.

        Raises:
            UnavailableError: catalog or store did not answer; repeat it.
            ExhaustedError: the log is full.
        """
        wanted = frozenset(shards)
        replay = Replay()
        rows = [
            row
            for row in await self._catalog.log_segments(state=LogSegmentState.HELD)
            if not wanted.isdisjoint(row.shards)
            and not (row.id.node == self._node and row.last_seq < self._log.next_seq)
        ]
        try:
            async with aclosing(read_ahead(self._store, rows)) as segments:
                async for row, read in segments:
                    await self._try(row, wanted.intersection(row.shards), replay, read)
        finally:
            self._deleted.clear()  # until then nobody else can have deleted anything of these shards
        return replay

    async def run(self) -> None:
        """Answer for the segments of this node's earlier starts; a failure is shown and retried."""
        while True:
            try:
                await self.step()
            except DesError as error:
                _log.warning("own shipped segments not read, will be repeated", error=str(error))
                await self._clock.sleep(RETRY_S)
            else:
                return

    async def step(self) -> Replay:
        """Read the segments of this node's earlier starts, whose records its log has: for cleaning up only.

        Among them those that a start left without a row, which nobody else can record any more.

        Raises:
            UnavailableError, ExhaustedError: as for `take_over`.
        """
        replay = Replay()
        await self._record_unrecorded()
        for row in await self._catalog.log_segments(node=self._node, state=LogSegmentState.HELD):
            if row.id.boot_epoch < self._boot_epoch and row.id not in self._shipments:
                try:
                    await self._try(row, row.shards, replay, partial(read_segment, self._store, row))
                finally:
                    self._deleted.clear()
        return replay

    async def _record_unrecorded(self) -> None:
        current = shipped_key(self._prefix, node=self._node, boot_epoch=self._boot_epoch, number=0)
        folder = current.rsplit("/", 2)[0] + "/"
        listed = [info.key async for info in self._store.list(folder) if info.key < current]
        if not listed:
            return
        recorded = {row.key for row in await self._catalog.log_segments(node=self._node)}
        for key in listed:
            if key in recorded:
                continue
            try:
                row = await segment_row(
                    self._store, await self._store.head(key), prefix=self._prefix, bits=self._bits
                )
            except (CorruptError, NoSuchObjectError) as error:
                _log.warning("object among shipped segments is none, and stays", key=key, error=str(error))
                continue
            shards = tuple(shard for shard in row.shards if self._holds(shard))
            if shards:
                await self._catalog.record_log_segment(replace(row, shards=shards), self._claim(shards))

    async def _try(
        self, row: LogSegmentRow, shards: Collection[int], replay: Replay, read: ReadFiles
    ) -> None:
        replay.segments += 1
        try:
            if self._log.failure is not None:
                raise ShippedSegmentError(f"shipped segment {row.key!r} is not replayed: {self._log.failure}")
            await self._replay(row, shards, replay, read)
        except CorruptError as error:
            if await self._still_held(row):
                _log.error("shipped segment is not replayed", key=row.key, error=str(error))
                replay.damaged.append(str(error))

    async def _replay(
        self, row: LogSegmentRow, shards: Collection[int], replay: Replay, read: ReadFiles
    ) -> None:
        drafts: list[FileDraft] = []
        present: list[str] = []
        try:
            for shipped in await read():
                # The store may have been divided anew since it was written.
                file = replace(shipped, shard=consistent_hash(shipped.name, self._bits))
                if file.shard not in shards:
                    continue
                present.append(file.name)
                if await self._is_known(file):
                    replay.known += 1
                else:
                    drafts.append(await self._draft(file))
            for result in await self._log.append_files(drafts):
                if isinstance(result, DesError):
                    raise result
        except BaseException:
            for draft in drafts:
                self._log.release_blocks(draft.blocks)  # those that no file took
            raise
        replay.files += len(drafts)
        opened = [self._open_index.get(name) for name in present]
        self._shipments.add(row, [each for each in opened if each is not None])

    async def _is_known(self, file: ShippedFile) -> bool:
        opened = self._open_index.get(file.name)
        if opened is not None:
            self._check_same(file, opened)
            return True
        return await self._find(file.name) is not None or file.name in await self._deleted_of(file)

    async def _deleted_of(self, file: ShippedFile) -> frozenset[str]:
        place = (file.day, file.shard)
        if place not in self._deleted:
            rows = await self._catalog.tombstones_of(str(file.day), file.shard, bits=self._bits)
            self._deleted[place] = frozenset(row.name for row in rows)
        return self._deleted[place]

    async def _draft(self, file: ShippedFile) -> FileDraft:
        parts: Sequence[bytes] = file.parts or ()
        whole = file.parts is not None and len(parts) <= 1
        return FileDraft(
            name=file.name,
            day=file.day,
            shard=file.shard,
            size=file.size,
            crc32c=file.crc32c,
            facts=file.facts,
            data=b"".join(parts) if whole else None,
            blocks=()
            if whole
            else tuple([await self._log.append_block(part, google_crc32c.value(part)) for part in parts]),
        )

    async def _still_held(self, row: LogSegmentRow) -> bool:
        """Whether the segment is still needed: it may have been released, and removed, while it was read."""
        rows = await self._catalog.log_segments(node=row.id.node, state=LogSegmentState.HELD)
        return any(each.id == row.id for each in rows)

    @staticmethod
    def _check_same(file: ShippedFile, opened: OpenFile) -> None:
        if (file.size, file.crc32c) != (opened.size, opened.crc32c):
            raise ShippedSegmentError(
                f"file {file.name!r} is open with {opened.size} bytes and CRC32C {opened.crc32c:08x}, "
                f"and was shipped with {file.size} bytes and CRC32C {file.crc32c:08x}",
                name=file.name,
            )
