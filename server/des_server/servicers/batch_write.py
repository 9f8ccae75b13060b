"""`FileService.BatchWriteFiles`: many files per message in, each answered for itself."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from des_proto.v1.file_service_pb2 import BatchWriteFilesRequest, BatchWriteFilesResponse, WriteItem
from grpc.aio import ServicerContext

from des.config import LimitSettings
from des.errors import DesError, InvalidInputError
from des.files import BLOCK_SIZE
from des.monitoring.metrics import NodeMetrics
from des.node import Node, PutResult, Upload
from des.node.put_many import WholeFile
from des_server import convert
from des_server.credits import ByteCredits, Loan
from des_server.errors import ServerBusyError, StreamIncompleteError
from des_server.interceptors.calls import Incoming
from des_server.leaving import Leaving
from des_server.pace import Pace
from des_server.servicers.batch_read import check_count
from des_server.servicers.claims import Claims, check_chunk, check_crc32c, check_sha256
from des_server.servicers.index_set import IndexSet
from des_server.stalls import StallWatch
from des_server.status import item_status

MESSAGES_AT_ONCE: Final = 8
"""Messages of one stream that are being written: while one is synced the next is read and checked."""
PARTED_MAX: Final = 16
"""Files in parts that one stream may have under way."""
RESULTS_PER_MESSAGE: Final = 400
"""A refusal takes up to 3 KiB, so an answer stays below 2 MiB whatever became of its items."""

_Outcome = PutResult | DesError
_Arrived = tuple[BatchWriteFilesRequest, float]


class BatchWrite:
    """Takes batches in for one node."""

    def __init__(
        self,
        node: Node,
        limits: LimitSettings,
        lending: ByteCredits,
        metrics: NodeMetrics,
        leaving: Leaving,
    ) -> None:
        self._node = node
        self._leaving = leaving
        self._limits = limits
        self._lending = lending
        self._metrics = metrics
        self._watch = StallWatch(limits.stall_s)

    async def run(
        self,
        requests: Incoming[BatchWriteFilesRequest],
        context: ServicerContext[BatchWriteFilesRequest, BatchWriteFilesResponse],
    ) -> None:
        """Receive messages and answer them in any order, until both sides are done.

        Raises:
            ShuttingDownError: the server leaves. Every item of a message taken by then has its answer,
                but for files whose last part is missing; nothing of the others was kept.
        """
        stream = _Stream(self._node, self._limits, self._lending, self._metrics, context)
        reading: asyncio.Task[_Arrived | None] | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                # Always one ahead: gRPC moves the next message while this one is worked on.
                reading = self._next(requests)
                while not (leaves := await self._leaving.cuts(reading)) and (arrived := await reading):
                    message, waited_s = arrived
                    reading = self._next(requests)
                    await stream.take(message, tasks, waited_s=waited_s)
                if not leaves:
                    stream.give_up_unfinished(tasks)
            if leaves:
                # The read goes on until the call ends, as gRPC wants it; what it brings is not taken.
                requests.discard_after(reading)
                reading = None
                raise self._leaving.error()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            if reading is not None:
                reading.cancel()
            await stream.close()

    def _next(self, requests: Incoming[BatchWriteFilesRequest]) -> "asyncio.Task[_Arrived | None]":
        """Begin to read the next message, and how long it is waited for; None after the last."""
        reading = asyncio.create_task(self._read(requests))
        reading.add_done_callback(_seen)
        return reading

    async def _read(self, requests: Incoming[BatchWriteFilesRequest]) -> _Arrived | None:
        before = time.monotonic()
        message = await self._watch.read(requests)
        return None if message is None else (message, time.monotonic() - before)


@dataclass(slots=True, eq=False)
class _Parted:
    """A file whose last part has not come."""

    upload: Upload | None
    """None once it has failed: what still comes for it is dropped."""
    loan: Loan
    received: int = 0


class _Stream:
    """One call: which indexes were used, which files are under way."""

    def __init__(
        self,
        node: Node,
        limits: LimitSettings,
        lending: ByteCredits,
        metrics: NodeMetrics,
        context: ServicerContext[BatchWriteFilesRequest, BatchWriteFilesResponse],
    ) -> None:
        self._node = node
        self._limits = limits
        self._lending = lending
        self._metrics = metrics
        self._context = context
        self._used = IndexSet()
        self._parted: dict[int, _Parted] = {}
        self._live: list[_Parted] = []
        """Those that may hold something, also while they are being finished."""
        self._room = asyncio.Semaphore(MESSAGES_AT_ONCE)
        self._writing = asyncio.Lock()
        self._pace = Pace(limits.bytes_per_s_min, limits.stall_s)

    async def take(
        self, message: BatchWriteFilesRequest, tasks: asyncio.TaskGroup, *, waited_s: float
    ) -> None:
        """Check a message's items and begin to write them; returns when the next may be read.

        A stream of whole files may come at any pace; one that owes the rest of a file may not.

        Raises:
            StalledError: files under way come too slowly.
            MessageTooLargeError: more items than a message may have.
            ServerBusyError: no room for its bytes.
        """
        check_count(len(message.items), self._limits)
        await self._room.acquire()
        borrowed = 0
        begun = False
        try:
            size = sum(len(item.chunk.data) for item in message.items)
            if self._parted:
                self._pace.count(size, waited_s)
            borrowed = await self._lending.borrow(size)
            indexes: list[int] = []
            files: list[WholeFile] = []
            refused: list[tuple[int, _Outcome]] = []
            finished: list[tuple[int, _Parted, Claims]] = []
            for item in message.items:
                try:
                    if item.more or item.index in self._parted:
                        await self._part(item, finished)
                    else:
                        file = self._whole(item)
                        indexes.append(item.index)
                        files.append(file)
                except DesError as error:
                    refused.append((item.index, error))
            tasks.create_task(self._write(indexes, files, finished, refused, borrowed))
            begun = True
        finally:
            if not begun:
                self._lending.give_back(borrowed)
                self._room.release()

    def give_up_unfinished(self, tasks: asyncio.TaskGroup) -> None:
        """Answer for the files whose last part never came."""
        lost: list[tuple[int, _Outcome]] = [
            (
                index,
                StreamIncompleteError(
                    f"the stream ended after {parted.received} bytes of item {index}, without its last part",
                    position=parted.received,
                ),
            )
            for index, parted in self._parted.items()
            if parted.upload is not None
        ]
        if lost:
            tasks.create_task(self._answer(lost))

    async def close(self) -> None:
        """Give back what unfinished files hold."""
        for parted in self._live:
            await _abort(parted)
        self._live.clear()
        self._parted.clear()

    def _whole(self, item: WriteItem) -> WholeFile:
        """Return the file of an item that stands in one message."""
        self._begin(item)
        data, crc32c = check_chunk(item.chunk, self._limits.chunk_bytes)
        spec = convert.spec_from_wire(item.spec)
        if item.HasField("checksums"):
            claims = Claims()
            claims.add(item.checksums)
            if claims.crc32c is not None:
                check_crc32c(claims.crc32c, crc32c, scope="file")
            if claims.sha256 is not None:
                check_sha256(claims.sha256, hashlib.sha256(data).digest())
        return WholeFile(spec, data, crc32c)

    def _begin(self, item: WriteItem) -> None:
        try:
            fresh = self._used.add(item.index)
        except OverflowError:
            raise InvalidInputError(
                f"index {item.index} is ahead of too many that were left out; count upwards", field="index"
            ) from None
        if not fresh:
            raise InvalidInputError(f"index {item.index} was used before on this stream", field="index")
        if not item.HasField("spec"):
            raise InvalidInputError(f"item {item.index} has no spec in its first part", field="spec")

    async def _part(self, item: WriteItem, finished: list[tuple[int, _Parted, Claims]]) -> None:
        """Take one part of a file; the last one moves it to `finished`."""
        parted = self._parted.get(item.index)
        if parted is None:
            parted = await self._first_part(item)
        elif parted.upload is None:
            if not item.more:
                del self._parted[item.index]
            return
        elif item.HasField("spec"):
            await self._fail(item, parted)
            raise InvalidInputError(f"item {item.index} has a spec in a later part", field="spec")
        assert parted.upload is not None
        try:
            data, _ = check_chunk(item.chunk, self._limits.chunk_bytes)
            if item.more and item.HasField("checksums"):
                raise InvalidInputError(
                    f"item {item.index} has checksums before its last part", field="checksums"
                )
            claims = Claims()
            claims.add(item.checksums)
            await parted.loan.grow_to(len(data))
            await parted.upload.write(data)
            parted.received += len(data)
        except BaseException:
            await self._fail(item, parted)
            raise
        if not item.more:
            finished.append((item.index, self._parted.pop(item.index), claims))

    async def _first_part(self, item: WriteItem) -> _Parted:
        parted = _Parted(None, Loan(self._lending))
        try:
            self._begin(item)
            if sum(one.upload is not None for one in self._parted.values()) >= PARTED_MAX:
                raise ServerBusyError(
                    f"{PARTED_MAX} files of this stream lack their last part, no more may begin",
                    limit="parted_files",
                )
            parted.upload = await self._node.begin_put(convert.spec_from_wire(item.spec))
        except DesError:
            if item.more:
                self._parted.setdefault(item.index, parted)
            raise
        self._live = [one for one in self._live if one.upload is not None]
        self._live.append(parted)
        self._parted[item.index] = parted
        return parted

    async def _fail(self, item: WriteItem, parted: _Parted) -> None:
        await _abort(parted)
        if not item.more:
            self._parted.pop(item.index, None)

    async def _write(
        self,
        indexes: Sequence[int],
        files: Sequence[WholeFile],
        finished: Sequence[tuple[int, _Parted, Claims]],
        refused: list[tuple[int, _Outcome]],
        borrowed: int,
    ) -> None:
        outcomes = refused
        try:
            try:
                outcomes += await self._put(indexes, files)
                for index, parted, claims in finished:
                    outcomes.append((index, await self._finish(parted, claims)))
            finally:
                # Before the answer leaves: a client that does not read must not keep others out.
                self._lending.give_back(borrowed)
            await self._answer(outcomes)
        finally:
            self._room.release()

    async def _put(self, indexes: Sequence[int], files: Sequence[WholeFile]) -> list[tuple[int, _Outcome]]:
        short = [at for at, file in enumerate(files) if len(file.data) <= BLOCK_SIZE]
        results: list[tuple[int, _Outcome]] = []
        if short:
            outcomes = await self._node.put_many(
                files if len(short) == len(files) else [files[at] for at in short]
            )
            results = [(indexes[at], outcome) for at, outcome in zip(short, outcomes, strict=True)]
        for index, (spec, data, crc32c) in zip(indexes, files, strict=True):
            if len(data) > BLOCK_SIZE:
                try:
                    results.append((index, await self._node.put_bytes(spec, data, crc32c)))
                except DesError as error:
                    results.append((index, error))
        return results

    async def _finish(self, parted: _Parted, claims: Claims) -> _Outcome:
        assert parted.upload is not None
        try:
            return await parted.upload.finish(claims.crc32c, claims.sha256)
        except DesError as error:
            return error
        finally:
            await _abort(parted)

    async def _answer(self, outcomes: Sequence[tuple[int, _Outcome]]) -> None:
        new = repeated = new_bytes = 0
        for start in range(0, len(outcomes), RESULTS_PER_MESSAGE):
            response = BatchWriteFilesResponse()
            add = response.results.add
            for index, outcome in outcomes[start : start + RESULTS_PER_MESSAGE]:
                result = add()
                result.index = index
                if isinstance(outcome, DesError):
                    result.status.CopyFrom(item_status(outcome))
                else:
                    convert.write_result(result, outcome)
                    if outcome.already_existed:
                        repeated += 1
                    else:
                        new += 1
                        new_bytes += outcome.file.size
            async with self._writing:
                await self._context.write(response)
        self._metrics.put_many(new=new, repeated=repeated, new_bytes=new_bytes)


def _seen(reading: "asyncio.Task[_Arrived | None]") -> None:
    if not reading.cancelled():
        reading.exception()  # of a read that nobody waits for any more


async def _abort(parted: _Parted) -> None:
    upload, parted.upload = parted.upload, None
    try:
        if upload is not None:
            with contextlib.suppress(DesError):  # the first error says more
                await asyncio.shield(upload.abort())
    finally:
        parted.loan.give_back()
