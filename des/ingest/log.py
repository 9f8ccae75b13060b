"""The ingest log: the one thing a put waits for.

Appends that arrive while a group is being synced make up the next one, so a group costs one write
and one sync however many wait for it. What is acknowledged is on the device; what is published was
synced before; what failed stays failed. The rules and their reasons: docs/log.md.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import ParamSpec, Self, TypeVar
from uuid import UUID

from des.clock import Clock
from des.config.settings import LogSettings
from des.errors import DesError
from des.ingest import record
from des.ingest.committer import Append, Committer
from des.ingest.drafts import check_data, file_record, open_file
from des.ingest.errors import LogFullError, LogReadOnlyError, LogReclaimError
from des.ingest.live import LiveSegment, LiveSegments
from des.ingest.log_reader import LogReader
from des.ingest.record import Draft, Kind
from des.ingest.recovery import Recovery, has_room, recover
from des.ingest.segment import HEADER_SIZE
from des.ingest.values import DeleteDraft, Deletion, Extent, FileDraft, OpenFile, RecoveredLog, Sealing
from des.ingest.writer import Committed, SegmentWriter
from des.monitoring.log_fill import LogFill
from des.monitoring.log_metrics import LogCounts
from des.monitoring.tracing import span
from des.storage.disk import Disk

P = ParamSpec("P")
T = TypeVar("T")
Publish = Callable[[Sequence[OpenFile]], None]


class IngestLog:
    """The append-only log of one node. All methods are called on one event loop.

    After `LogFailedError` every further append fails with it, and reads go on.
    """

    def __init__(
        self,
        disk: Disk,
        recovery: Recovery,
        writer: SegmentWriter,
        *,
        clock: Clock,
        settings: LogSettings,
        executor: Executor | None,
        publish: Publish,
        directory: str,
    ) -> None:
        """For `open` only."""
        self._disk = disk
        self._directory = directory
        self._clock = clock
        self._executor = executor
        self._publish = publish
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._bytes_max, self._records_max = int(settings.budget_bytes), settings.records_max
        self._segments = LiveSegments(
            recovery.segments, clock=clock, reclaim_delay_s=settings.reclaim_delay_s
        )
        self.reader = LogReader(self._segments, executor)
        """Reads what was appended."""
        self._floor_ms = recovery.log.floor_ms
        self._floor_segment = recovery.floor_segment
        self._reclaiming = asyncio.Lock()
        self.counts = LogCounts()
        self.room_needed_bytes = recovery.log.room_needed_bytes
        """What the disk lacked for the log to be opened for writing; 0 where that is not the cause."""
        failure: DesError | None = None
        if cause := recovery.log.read_only_cause:
            failure = LogReadOnlyError(f"the ingest log takes no writes: {cause}", cause=cause)
        in_segment = int(settings.segment_bytes) - HEADER_SIZE - record.END_SIZE
        self._committer = Committer(
            self._write_group,
            self._refused,
            group_bytes=max(1, min(int(settings.group_bytes), in_segment)),
            failure=failure,
        )
        self._fullness = self.fill.fullness

    @classmethod
    async def open(
        cls,
        disk: Disk,
        *,
        clock: Clock,
        node: UUID,
        boot_epoch: int,
        settings: LogSettings,
        executor: Executor | None,
        publish: Publish,
        directory: str = "log",
        salt: Callable[[], int],
        disk_share: float = 1.0,
    ) -> tuple[Self, RecoveredLog]:
        """Recover the log in `directory` and open it for appending.

        Args:
            disk: holds the log.
            clock: stamps records, and times reclaiming.
            node: must be the node that wrote the log.
            boot_epoch: number of this start, higher than that of any before.
            settings: sizes and limits.
            executor: runs what blocks, with at least two threads so that reads do not wait for syncs;
                None runs it in place.
            publish: called on the loop with the files of each group, in order, after their sync and
                before their appends return.
            directory: folder of the log on the disk.
            salt: gives 32 random bits for each new segment.
            disk_share: part of the room on the disk that it may take; where what it holds is sealed onto the
                same disk, half of it.

        Raises:
            LogVersionError: a newer version wrote part of it; nothing was changed.
            LogFailedError: the disk refused.
        """

        def work() -> Recovery:
            return recover(disk, directory, node=node, boot_epoch=boot_epoch, time_ms=clock.now_ms())

        if executor is None:
            recovery = work()
        else:
            recovery = await asyncio.get_running_loop().run_in_executor(executor, work)
        writer = SegmentWriter(
            disk,
            directory,
            node=node,
            boot_epoch=boot_epoch,
            settings=settings,
            salt=salt,
            next_number=recovery.next_number,
            next_seq=recovery.next_seq,
            disk_share=disk_share,
        )
        log = cls(
            disk,
            recovery,
            writer,
            clock=clock,
            settings=settings,
            executor=executor,
            publish=publish,
            directory=directory,
        )
        return log, recovery.log

    # --- state ------------------------------------------------------------------------------

    @property
    def failure(self) -> DesError | None:
        """Why appends fail; None while they do not."""
        return self._committer.failure

    async def has_room(self) -> bool:
        """Return whether the disk has by now what it lacked when the log was opened."""
        try:
            return await self._blocking(has_room, self._disk, self._directory, self.room_needed_bytes)
        except OSError:
            return False  # the disk has other troubles now

    @property
    def bytes_used(self) -> int:
        """Disk the segments take, reserved room included."""
        return self._segments.allocated

    @property
    def fill(self) -> LogFill:
        """What it holds of what it may hold."""
        records = self.next_seq - self.first_seq
        return LogFill(self.bytes_used, self._bytes_max, records, self._records_max, self._writer.disk_max)

    @property
    def fullness(self) -> float:
        """`fill.fullness` as of the last group or reclaim, at the price of nothing."""
        return self._fullness

    @property
    def room_bytes(self) -> int:
        """What still fits into the segment that is being written."""
        return self._writer.room_bytes

    @property
    def first_seq(self) -> int:
        """Lowest sequence number still in the log; `next_seq` when it holds nothing."""
        oldest = self._segments.oldest
        return self.next_seq if oldest is None else oldest.header.first_seq

    @property
    def oldest_segment(self) -> int:
        """Number of the segment that is given up next; 0 when there is none."""
        oldest = self._segments.oldest
        return 0 if oldest is None else oldest.number

    @property
    def next_seq(self) -> int:
        """Sequence number of the next record."""
        return self._writer.next_seq

    # --- appending --------------------------------------------------------------------------

    async def append_file(self, draft: FileDraft) -> OpenFile:
        """Append a file and return when it is on the device and published.

        A cancelled call undoes nothing. After a `LogFullError` the file's blocks are loose again.

        Raises:
            ValueError: the draft contradicts itself, or names blocks that are not loose.
            LogFullError: there is no room; nothing was written.
            LogFailedError: the log takes no writes; whether this one is kept is unknown.
        """
        done = self._committer.append(file_record(draft, self._segments.loose), draft)
        self._segments.loose.difference_update(draft.blocks)
        try:
            with span("log.append", bytes=draft.size):
                file = await done
        except asyncio.CancelledError:
            self._forget([done], [draft])
            raise
        assert isinstance(file, OpenFile)
        return file

    async def append_files(self, drafts: Sequence[FileDraft]) -> list[OpenFile | DesError]:
        """Append many files at the price of few waits; return for each its file or why it is not kept.

        The errors are those of `append_file`, in the place of the files they befell.

        Raises:
            ValueError: a draft contradicts itself; nothing was appended.
            LogFailedError: the log takes no writes; nothing was appended.
        """
        loose = set(self._segments.loose)
        records: list[Draft] = []
        for draft in drafts:
            records.append(file_record(draft, loose))
            loose.difference_update(draft.blocks)
        waiting = [
            self._committer.append(record, draft) for record, draft in zip(records, drafts, strict=True)
        ]
        self._segments.loose = loose
        results: list[OpenFile | DesError] = []
        try:
            with span("log.append_files", files=len(drafts)):
                for done in waiting:
                    try:
                        file = await done
                    except DesError as error:
                        results.append(error)
                    else:
                        assert isinstance(file, OpenFile)
                        results.append(file)
        except asyncio.CancelledError:
            self._forget(waiting, drafts)
            raise
        return results

    async def append_block(self, data: bytes, crc32c: int) -> Extent:
        """Append part of a file, at most `record.DATA_MAX` bytes; return its place when it is synced.

        The block stays readable until `release_blocks`, or for as long as the file that takes it.

        Raises:
            ValueError: the data is empty, too long or does not match `crc32c`.
            LogFullError: there is no room; nothing was written.
            LogFailedError: the log takes no writes.
        """
        if not data:
            raise ValueError("a block has at least one byte")
        check_data(data, crc32c)
        done = self._committer.append(Draft(Kind.BLOCK, 0, b"", b"", data, crc32c, 0, 0))
        try:
            with span("log.append_block", bytes=len(data)):
                extent = await done
        except asyncio.CancelledError:
            if done.done() and not done.cancelled() and isinstance(written := done.result(), Extent):
                self.release_blocks([written])  # nobody learnt where it is
            raise
        assert isinstance(extent, Extent)
        return extent

    def release_blocks(self, extents: Iterable[Extent]) -> None:
        """Give up blocks that no file has taken. Others, and twice, are fine."""
        self._segments.release_blocks(extents)

    async def append_deletes(self, deletes: Sequence[DeleteDraft]) -> list[Deletion]:
        """Record that files are gone; returns when that is on the device.

        Each record pins its segment until `release_deletes`: the catalog has to learn of it first.

        Raises:
            LogFullError: there is no room; which of them are kept is unknown.
            LogFailedError: the log takes no writes; which of them are kept is unknown.
        """
        waiting = [
            self._committer.append(
                record.delete_draft(one.name, day=one.day, shard=one.shard, external_key=one.external_key)
            )
            for one in deletes
        ]
        results = await asyncio.gather(*waiting)
        return [result for result in results if isinstance(result, Deletion)]

    def release_deletes(self, deletions: Iterable[Deletion]) -> None:
        """Say that the catalog has the tombstones of these, so that the log need not. Twice is once."""
        self._segments.release_deletes(deletions)

    async def append_floor(self, floor_ms: int) -> None:
        """Record that names may carry times up to `floor_ms`; a later start begins behind it."""
        await self._committer.append(record.floor_draft(floor_ms))

    async def append_sealing(self, sealing: Sealing) -> None:
        """Record the intent to seal."""
        await self._committer.append(record.sealing_draft(sealing))

    async def append_stored(self, container_id: str, etag: str) -> None:
        """Record that a container was committed to the catalog."""
        await self._committer.append(record.stored_draft(container_id, etag))

    def _forget(self, waiting: Sequence[asyncio.Future[object]], drafts: Sequence[FileDraft]) -> None:
        """Nobody waits for these any more: let go of the blocks of those that were refused."""
        for done, draft in zip(waiting, drafts, strict=True):
            if not done.cancel() and not done.cancelled() and isinstance(done.exception(), LogFullError):
                self.release_blocks(draft.blocks)

    async def _write_group(self, group: list[Append], *, urgent: bool) -> None:
        time_ms = self._clock.now_ms()
        begun = time.perf_counter()
        committed = await self._blocking(
            self._writer.commit,
            [each.draft for each in group],
            time_ms=time_ms,
            fill=self.fill,
            urgent=urgent,
        )
        self.counts.sync_s.observe(time.perf_counter() - begun)
        self.counts.records.observe(len(group))
        self.counts.bytes += sum(each.draft.size for each in group)
        self._acknowledge(group, committed, time_ms)

    def _acknowledge(self, group: list[Append], committed: Committed, time_ms: int) -> None:
        segment = committed.segment
        self._segments.add(segment)
        now = self._clock.monotonic()
        results: list[object] = []
        files: list[OpenFile] = []
        seq = committed.first_seq
        for append, offset in zip(group, committed.offsets, strict=True):
            draft = append.draft
            result: object = None
            segment.pinned.append(append.file is not None or draft.kind is Kind.DELETE)
            if append.file is not None:
                segment.pins += 1
                file = open_file(append.file, seq, time_ms, segment.number, offset)
                files.append(file)
                result = file
            elif draft.kind is Kind.DELETE:
                segment.pins += 1
                name, key = draft.name.decode(), draft.text.decode()
                result = Deletion(name, draft.day, draft.shard, seq, time_ms, segment.number, key)
            elif draft.kind is Kind.BLOCK:
                segment.pins += 1
                result = Extent(segment.number, offset, len(draft.data), draft.data_crc)
                self._segments.loose.add(result)
                if append.done.cancelled():
                    self.release_blocks([result])
            elif draft.kind is Kind.CLOCK_FLOOR:
                self._floor_ms = max(self._floor_ms, record.decode_floor(draft.data))
                self._floor_segment = segment.number
            results.append(result)
            seq += 1
        segment.unpinned_at = now
        self._fullness = self.fill.fullness
        if files:
            self._publish(files)
        for append, result in zip(group, results, strict=True):
            if not append.done.done():
                append.done.set_result(result)

    def _refused(self, append: Append) -> None:
        """Nothing of it was written: its blocks are loose again, or released when nobody waits."""
        self.counts.refused += 1
        self._fullness = self.fill.fullness  # the disk may have turned out to be smaller than it was
        if append.file is not None:
            self._segments.loose.update(append.file.blocks)
            if append.done.cancelled():
                self.release_blocks(append.file.blocks)

    # --- reclaiming -------------------------------------------------------------------------

    def mark_stored(self, files: Iterable[OpenFile]) -> None:
        """Say that containers hold these files, so that the log need not. Twice is once."""
        self._segments.release_files(files)

    async def reclaim(self) -> int:
        """Remove the oldest segments that nothing needs; return the bytes freed.

        The newest always stays: it carries the sequence on. A failed or damaged log keeps everything.

        Raises:
            LogReclaimError: a segment could not be removed; it stays.
            LogFullError, LogFailedError: the clock floor could not be carried over; its segment stays.
        """
        freed = 0
        async with self._reclaiming:
            while (segment := self._removable()) is not None:
                if segment.number == self._floor_segment:
                    await self.append_floor(self._floor_ms)
                    continue
                try:
                    await self._blocking(self._remove, segment.path)
                except OSError as error:
                    raise LogReclaimError(f"{segment.path} could not be removed: {error}") from error
                self._segments.drop(segment)
                freed += segment.allocated
                if not segment.readers:
                    await self._blocking(segment.file.close)  # the last handle: here its blocks are freed
                self._fullness = self.fill.fullness
        return freed

    def _removable(self) -> LiveSegment | None:
        return self._segments.removable() if self.failure is None else None

    def _remove(self, path: str) -> None:
        # One by one: a crash that kept a later removal and not an earlier one would look like a hole.
        self._disk.remove(path)
        self._disk.sync_directory(self._directory)

    # --- the end ----------------------------------------------------------------------------

    async def close(self) -> None:
        """Commit what waits, end the active segment and close the files. Twice is once."""
        await self._committer.close()
        async with self._reclaiming:
            if self.failure is None:
                try:
                    await self._blocking(self._writer.end, self._clock.now_ms())
                except OSError as error:
                    self._committer.poison(error)
            self._segments.retire_all()

    async def _blocking(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._executor is None:
            return call(*args, **kwargs)
        return await self._loop.run_in_executor(self._executor, lambda: call(*args, **kwargs))
