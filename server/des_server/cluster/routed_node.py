"""A node that answers for the whole cluster: what it does not own it asks of the owners (ADR 0016).

Stands where the doors use a node. Every method asks the own node first; what that refuses as another
node's goes to the owner, item by item, one hop at most, and comes back as if it had been answered here. While
an owner is away its items are UNAVAILABLE with a time to come back, never missing. Streams of one file
are not among this: the router sends those on as they are.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import (
    BatchDeleteFilesRequest,
    BatchDeleteFilesResponse,
    BatchStatFilesRequest,
    BatchStatFilesResponse,
    BatchWriteFilesRequest,
    BatchWriteFilesResponse,
    StatResult,
    WaitStoredRequest,
    WaitStoredResponse,
    WriteItem,
)
from grpc.aio import AioRpcError, Channel

from des.cluster import NotShardOwnerError
from des.errors import DesError
from des.files import FileInfo, FileSpec, FileState
from des.naming import consistent_hash, created_ms_of
from des.node import Node, PutResult
from des.node.put_many import WholeFile
from des.retrieval import OpenedFile, Part, ReadCost, Wanted
from des.retrieval.listing import ListPage, ListPosition, ListQuestion
from des.retrieval.tombstones import FileDeletedError
from des_server.cluster.onward import Onward
from des_server.cluster.open_listing import OpenListing
from des_server.cluster.owners import Answer, Owners, is_away
from des_server.cluster.remote import FILE_SERVICE, RemoteFile, RemoteUpload
from des_server.cluster.routed_reads import RoutedReads
from des_server.from_wire import (
    deleted_ms_of,
    error_from_status,
    file_from_wire,
    put_result_from_wire,
    spec_to_wire,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

MESSAGE_BYTES: Final = 1 << 20
"""Of data in one message to another node."""
ITEM_BYTES: Final = 256
"""What an item of a message takes beside its data, about."""

T = TypeVar("T")


class RoutedNode:
    """What the doors use of a node, for all shards of the cluster."""

    def __init__(self, node: Node, owners: Owners, listing: OpenListing) -> None:
        self._node = node
        self._owners = owners
        self._open_listing = listing
        self._reads = RoutedReads(node, owners)
        self._chunk_bytes = int(node.settings.limits.preferred_chunk_bytes)
        self._items_max = node.settings.limits.batch_items

    def __getattr__(self, name: str) -> Any:
        """Return what needs no other node, or sees to others in its own way."""
        return getattr(self._node, name)

    # --- writing ----------------------------------------------------------------------------

    async def put_many(self, items: Sequence[WholeFile]) -> list[PutResult | DesError]:
        """See `Node.put_many`."""
        outcomes = await self._node.put_many(items)

        async def there(
            channel: Channel, call: Onward, places: list[int], answer: "Answer[PutResult]"
        ) -> None:
            write: grpc.aio.StreamStreamMultiCallable[BatchWriteFilesRequest, BatchWriteFilesResponse] = (
                channel.stream_stream(
                    f"{FILE_SERVICE}/BatchWriteFiles",
                    request_serializer=BatchWriteFilesRequest.SerializeToString,
                    response_deserializer=BatchWriteFilesResponse.FromString,
                )
            )
            messages = self._messages(items, places)
            writing = write(iter_of(messages), metadata=call.metadata, timeout=call.timeout_s)
            try:
                async for response in writing:
                    for result in response.results:
                        told: PutResult | DesError = (
                            error_from_status(result.status)
                            if result.HasField("status")
                            else put_result_from_wire(result)
                        )
                        answer(places[result.index], told)
            finally:
                writing.cancel()

        await self._owners.settle(
            outcomes,
            here=lambda places: self._node.put_many([items[at] for at in places]),
            there=there,
        )
        return outcomes

    def _messages(self, items: Sequence[WholeFile], places: Sequence[int]) -> list[BatchWriteFilesRequest]:
        """Return messages with the items at some places, each numbered by its position among them."""
        messages: list[BatchWriteFilesRequest] = []
        size = 0
        for index, at in enumerate(places):
            spec, data, crc32c = items[at]
            size += len(data) + ITEM_BYTES
            if not messages or size > MESSAGE_BYTES or len(messages[-1].items) >= self._items_max:
                messages.append(BatchWriteFilesRequest())
                size = len(data) + ITEM_BYTES
            item: WriteItem = messages[-1].items.add()
            item.index = index
            item.spec.CopyFrom(spec_to_wire(spec))
            item.chunk.data = data
            item.chunk.crc32c = crc32c
        return messages

    async def put_bytes(self, spec: FileSpec, data: bytes, crc32c: int) -> PutResult:
        """See `Node.put_bytes`."""
        try:
            return await self._node.put_bytes(spec, data, crc32c)
        except NotShardOwnerError as error:
            outcomes: list[PutResult | DesError] = [error]

        async def here(_: list[int]) -> list[PutResult | DesError]:
            try:
                return [await self._node.put_bytes(spec, data, crc32c)]
            except DesError as error:
                return [error]

        async def there(channel: Channel, call: Onward, _: list[int], answer: "Answer[PutResult]") -> None:
            upload = RemoteUpload(channel, call, spec, chunk_bytes=self._chunk_bytes)
            try:
                await upload.write(data)
                answer(0, await upload.finish(crc32c))
            except DesError as error:
                if not isinstance(error.__cause__, AioRpcError) or not is_away(error.__cause__):
                    answer(0, error)
            finally:
                await upload.abort()

        await self._owners.settle(outcomes, here=here, there=there)
        return _only(outcomes)

    async def begin_put(self, spec: FileSpec) -> Any:
        """See `Node.begin_put`."""
        return await self._begin(spec, self._owners.current())

    async def begin_finished(self, spec: FileSpec) -> Any:
        """Begin a file whose upload has ended at this node, wherever its shard is by now.

        The call that ended it may have come from another node; this put is the node's own, and goes one
        hop like any other.
        """
        return await self._begin(spec, replace(self._owners.current(), is_forwarded=False))

    async def _begin(self, spec: FileSpec, call: Onward) -> Any:
        try:
            return await self._node.begin_put(spec)
        except NotShardOwnerError as error:
            outcomes: list[Any] = [error]

        async def here(_: list[int]) -> list[Any]:
            try:
                return [await self._node.begin_put(spec)]
            except DesError as error:
                return [error]

        async def there(channel: Channel, call: Onward, _: list[int], answer: "Answer[Any]") -> None:
            answer(0, RemoteUpload(channel, call, spec, chunk_bytes=self._chunk_bytes))

        await self._owners.settle(outcomes, here=here, there=there, call=call)
        return _only(outcomes)

    async def delete_many(
        self, names: Sequence[str], *, allow_missing: bool
    ) -> list[FileInfo | DesError | None]:
        """See `Node.delete_many`."""
        found = await self._node.delete_many(names, allow_missing=allow_missing)
        lost = {at for at, told in enumerate(found) if _is_undecided(told)}
        """Places whose file may have been deleted by this very call, though no answer says so."""

        async def there(
            channel: Channel, call: Onward, places: list[int], answer: "Answer[FileInfo | None]"
        ) -> None:
            response = await _ask(
                channel,
                "BatchDeleteFiles",
                BatchDeleteFilesRequest(names=[names[at] for at in places], allow_missing=allow_missing),
                BatchDeleteFilesResponse,
                call,
            )
            for at, result in zip(places, response.results, strict=True):
                if result.HasField("file") and not result.file.HasField("create_time"):
                    answer(at, None)  # missing, which is allowed
                else:
                    answer(at, by_this_call(at, _stat(result)))

        async def here(places: list[int]) -> list[FileInfo | DesError | None]:
            again = await self._node.delete_many([names[at] for at in places], allow_missing=allow_missing)
            return [by_this_call(at, told) for at, told in zip(places, again, strict=True)]

        def by_this_call(at: int, told: "FileInfo | DesError | None") -> "FileInfo | DesError | None":
            if _is_undecided(told):
                lost.add(at)
            return (
                self._deleted(names[at], told) if isinstance(told, FileDeletedError) and at in lost else told
            )

        await self._owners.settle(found, here=here, there=there, on_lost=lost.update)
        return found

    # --- reading ----------------------------------------------------------------------------

    async def open_file(self, name: str) -> OpenedFile:
        """See `Node.open_file`."""
        try:
            with self._owners.left():
                return await self._node.open_file(name)
        except NotShardOwnerError as error:
            outcomes: list[OpenedFile | DesError] = [error]

        async def here(_: list[int]) -> list[OpenedFile | DesError]:
            try:
                return [await self._node.open_file(name)]
            except DesError as error:
                return [error]

        async def there(channel: Channel, call: Onward, _: list[int], answer: "Answer[OpenedFile]") -> None:
            (result,) = (await self._stat_there(channel, call, [name])).results
            told = _stat(result)
            answer(0, told if isinstance(told, DesError) else RemoteFile(channel, call, told))

        await self._owners.settle(outcomes, here=here, there=there, is_read=True)
        return _only(outcomes)

    async def stat(self, name: str) -> FileInfo:
        """See `Node.stat`."""
        (found,) = await self.stat_many([name], cost=ReadCost())
        if isinstance(found, DesError):
            raise found
        return found

    async def stat_many(self, names: Sequence[str], *, cost: ReadCost) -> list[FileInfo | DesError]:
        """See `Node.stat_many`."""
        with self._owners.left():
            found = await self._node.stat_many(names, cost=cost)

        async def there(
            channel: Channel, call: Onward, places: list[int], answer: "Answer[FileInfo]"
        ) -> None:
            response = await self._stat_there(channel, call, [names[at] for at in places])
            for at, result in zip(places, response.results, strict=True):
                answer(at, _stat(result))

        await self._owners.settle(
            found,
            here=lambda places: self._node.stat_many([names[at] for at in places], cost=cost),
            there=there,
            is_read=True,
        )
        return found

    async def read_many(
        self, wanted: Sequence[Wanted], *, part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        """See `Node.read_many`. What other nodes have comes last, from all of them at the same time."""
        reading = self._reads.read_many(wanted, part_bytes=part_bytes, cost=cost)
        async with aclosing(reading) as groups:
            async for parts in groups:
                yield parts

    async def list_files(
        self,
        question: ListQuestion,
        *,
        after: ListPosition | None,
        limit: int,
        names_only: bool,
        cost: ReadCost,
    ) -> ListPage:
        """See `Node.list_files`: with the open files of all nodes that live.

        Raises:
            UnavailableError: one of them does not answer.
        """
        call = self._owners.current()
        if call.is_forwarded:
            return await self._node.list_files(
                question, after=after, limit=limit, names_only=names_only, cost=cost
            )
        # The open files first: one that is sealed meanwhile is then in both, and never in neither.
        elsewhere = await self._open_listing.ask(question, after=after, limit=limit + 1, call=call)
        page = await self._node.list_names(question, after=after, limit=limit, cost=cost, elsewhere=elsewhere)
        if names_only:
            return page
        return ListPage(
            await self._node.described(page.files, cost, stat_many=self.stat_many), page.next, page.unlisted
        )

    async def wait_stored(self, names: Sequence[str]) -> list[FileInfo | DesError]:
        """See `Node.wait_stored`."""
        found = await self._node.wait_stored(names)

        async def there(
            channel: Channel, call: Onward, places: list[int], answer: "Answer[FileInfo]"
        ) -> None:
            response = await _ask(
                channel,
                "WaitStored",
                WaitStoredRequest(names=[names[at] for at in places]),
                WaitStoredResponse,
                call,
            )
            for at, result in zip(places, response.results, strict=True):
                answer(at, _stat(result))

        await self._owners.settle(
            found, here=lambda places: self._node.wait_stored([names[at] for at in places]), there=there
        )
        return found

    def _deleted(self, name: str, error: FileDeletedError) -> FileInfo:
        """Return what is known of a file that was deleted."""
        settings = self._node.settings
        return FileInfo(
            name,
            name[-26:-18],
            consistent_hash(name, settings.shard_bits),
            0,
            0,
            "",
            {},
            FileState.DELETED,
            created_ms_of(name, settings.wrap_bits),
            deleted_ms=deleted_ms_of(error),
        )

    @staticmethod
    async def _stat_there(channel: Channel, call: Onward, names: list[str]) -> BatchStatFilesResponse:
        request = BatchStatFilesRequest(names=names, view=types_pb2.FILE_VIEW_FULL)
        return await _ask(channel, "BatchStatFiles", request, BatchStatFilesResponse, call)


async def _ask(channel: Channel, method: str, request: "Message", kind: type[T], call: Onward) -> T:
    ask: grpc.aio.UnaryUnaryMultiCallable[Any, T] = channel.unary_unary(
        f"{FILE_SERVICE}/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=kind.FromString,  # type: ignore[attr-defined]  # a message
    )
    return await ask(request, metadata=call.metadata, timeout=call.timeout_s)


async def iter_of(messages: list[BatchWriteFilesRequest]) -> AsyncGenerator[BatchWriteFilesRequest, None]:
    """Yield messages, letting go of each."""
    messages.reverse()
    while messages:
        yield messages.pop()


def _stat(result: StatResult) -> FileInfo | DesError:
    if result.HasField("status"):
        return error_from_status(result.status)
    return file_from_wire(result.file)


def _is_undecided(outcome: object) -> bool:
    return isinstance(outcome, NotShardOwnerError) and outcome.is_undecided


def _only(outcomes: Sequence[T | DesError]) -> T:
    (outcome,) = outcomes
    if isinstance(outcome, DesError):
        raise outcome
    return outcome
