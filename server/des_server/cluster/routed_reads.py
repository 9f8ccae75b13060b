"""Reads of many files by a node of a cluster: what is here first, then what other nodes have."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

import grpc
from des_proto.v1.file_service_pb2 import BatchReadFilesRequest, BatchReadFilesResponse, FilePart, ReadItem
from grpc.aio import AioRpcError

from des.cluster import NotShardOwnerError
from des.db.membership import NodeRow
from des.node import Node
from des.retrieval import Part, ReadCost, Wanted
from des_server.cluster.onward import Onward
from des_server.cluster.owners import Owners, is_away
from des_server.cluster.remote import FILE_SERVICE
from des_server.from_wire import error_from_call, error_from_status, file_from_wire

PARTS_AHEAD: Final = 4
"""Messages of other nodes that wait to be sent on, for one call."""


class RoutedReads:
    """Reads for one node, of all shards of the cluster."""

    def __init__(self, node: Node, owners: Owners) -> None:
        self._node = node
        self._owners = owners

    async def read_many(
        self, wanted: Sequence[Wanted], *, part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        """See `Node.read_many`. What other nodes have comes last, from all of them at the same time."""
        pending: dict[int, NotShardOwnerError] = {}
        async with aclosing(self._read_here(wanted, range(len(wanted)), pending, part_bytes, cost)) as groups:
            while True:
                with self._owners.left():
                    parts = await anext(groups, None)
                if parts is None:
                    break
                yield parts
        if not pending:
            return
        call = self._owners.current()
        looked: set[int] = set()

        async def look(places: Sequence[int]) -> AsyncGenerator[list[Part], None]:
            """Read here, once, what was left to owners that do not answer."""
            due = [at for at in places if at in pending and at not in looked]
            if not due:
                return
            looked.update(due)
            for at in due:
                pending.pop(at)
            async with aclosing(self._read_here(wanted, due, pending, part_bytes, cost)) as groups:
                async for parts in groups:
                    yield parts

        async with aclosing(look(self._owners.ownerless(pending))) as groups:
            async for parts in groups:
                yield parts
        async with aclosing(self._owners.rounds(pending, call)) as rounds:
            async for mine, theirs in rounds:
                sources = [self._read_there(wanted, places, owner, call, pending) for owner, places in theirs]
                if mine:
                    for at in mine:
                        pending.pop(at)
                    sources.append(self._read_here(wanted, mine, pending, part_bytes, cost))
                async with aclosing(_merged(sources)) as groups:
                    async for parts in groups:
                        yield parts
                async with aclosing(look([at for _, places in theirs for at in places])) as groups:
                    async for parts in groups:
                        yield parts
        async with aclosing(look(list(pending))) as groups:
            async for parts in groups:
                yield parts
        if pending:
            yield [Part(at, None, 0, b"", 0, last=True, error=error) for at, error in sorted(pending.items())]

    async def _read_here(
        self,
        wanted: Sequence[Wanted],
        places: Sequence[int],
        pending: dict[int, NotShardOwnerError],
        part_bytes: int,
        cost: ReadCost,
    ) -> AsyncGenerator[list[Part], None]:
        reading = self._node.read_many([wanted[at] for at in places], part_bytes=part_bytes, cost=cost)
        begun: set[int] = set()
        async with aclosing(reading) as groups:
            async for parts in groups:
                kept: list[Part] = []
                for part in parts:
                    at = places[part.at]
                    if isinstance(part.error, NotShardOwnerError) and at not in begun:
                        pending[at] = part.error
                        continue
                    if not part.last:
                        begun.add(at)
                    kept.append(part._replace(at=at))
                if kept:
                    yield kept

    async def _read_there(
        self,
        wanted: Sequence[Wanted],
        places: list[int],
        owner: NodeRow,
        call: Onward,
        pending: dict[int, NotShardOwnerError],
    ) -> AsyncGenerator[list[Part], None]:
        read: grpc.aio.UnaryStreamMultiCallable[BatchReadFilesRequest, BatchReadFilesResponse] = (
            self._owners.channel(owner).unary_stream(
                f"{FILE_SERVICE}/BatchReadFiles",
                request_serializer=BatchReadFilesRequest.SerializeToString,
                response_deserializer=BatchReadFilesResponse.FromString,
            )
        )
        request = BatchReadFilesRequest(items=[_read_item(wanted[at]) for at in places])
        left = set(places)
        begun: set[int] = set()
        self._owners.forwarded += 1
        receiving = read(request, metadata=call.metadata, timeout=call.timeout_s)
        try:
            async for message in receiving:
                parts: list[Part] = []
                for wire in message.parts:
                    part = _part(wire, places)
                    if isinstance(part.error, NotShardOwnerError) and part.at not in begun:
                        pending[part.at] = part.error
                        left.discard(part.at)
                        continue
                    pending.pop(part.at, None)
                    if part.last:
                        left.discard(part.at)
                    else:
                        begun.add(part.at)
                    parts.append(part)
                if parts:
                    yield parts
        except AioRpcError as error:
            self._owners.forward_failures += 1
            away = is_away(error)
            failed = error_from_call(error)
            # What had begun cannot begin anew: its reader has the first bytes, and is told to come back.
            ended = [at for at in sorted(left) if at in begun or not away]
            for at in ended:
                pending.pop(at, None)
            if ended:
                yield [Part(at, None, 0, b"", 0, last=True, error=failed) for at in ended]
        finally:
            receiving.cancel()


async def _merged(sources: list[AsyncGenerator[list[Part], None]]) -> AsyncGenerator[list[Part], None]:
    """Yield what the sources yield, as it comes. Files of one source stay in order."""
    queue: asyncio.Queue[list[Part]] = asyncio.Queue(PARTS_AHEAD)

    async def drain(source: AsyncGenerator[list[Part], None]) -> None:
        async with aclosing(source) as groups:
            async for parts in groups:
                await queue.put(parts)

    async def drain_all() -> None:
        async with asyncio.TaskGroup() as tasks:
            for source in sources:
                tasks.create_task(drain(source))

    draining = asyncio.ensure_future(drain_all())
    getting = asyncio.ensure_future(queue.get())
    try:
        while True:
            await asyncio.wait([getting, draining], return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                break
            yield getting.result()
            getting = asyncio.ensure_future(queue.get())
        await draining
    finally:
        getting.cancel()
        draining.cancel()
        await asyncio.gather(getting, draining, return_exceptions=True)


def _read_item(wanted: Wanted) -> ReadItem:
    item = ReadItem(name=wanted.name)
    if wanted.offset or wanted.limit:
        item.range.offset = wanted.offset
        item.range.limit = wanted.limit
    return item


def _part(wire: FilePart, places: Sequence[int]) -> Part:
    at = places[wire.index]
    if wire.HasField("status"):
        return Part(at, None, 0, b"", 0, last=True, error=error_from_status(wire.status))
    info = file_from_wire(wire.file) if wire.HasField("file") else None
    return Part(at, info, wire.offset, wire.chunk.data, wire.chunk.crc32c, last=wire.last)
