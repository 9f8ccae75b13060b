"""`FileService.BatchReadFiles`: many files out, many per message, in the order in which they are stored."""

import contextlib
from typing import Any, Final

from des_proto.v1.file_service_pb2 import BatchReadFilesRequest, ReadItem
from grpc.aio import ServicerContext

from des.config import LimitSettings
from des.monitoring.metrics import NodeMetrics
from des.node import Node
from des.retrieval import Part, ReadCost, Wanted
from des_server import wire
from des_server.errors import MessageTooLargeError
from des_server.leaving import SLOW_READER_S, Leaving
from des_server.servicers.get_file import cost_trailers
from des_server.status import item_status

MESSAGE_BYTES: Final = 1 << 20
"""A message leaves when the next part would make it longer; one part alone may."""


class BatchRead:
    """Sends batches for one node."""

    def __init__(self, node: Node, limits: LimitSettings, metrics: NodeMetrics, leaving: Leaving) -> None:
        self._node = node
        self._leaving = leaving
        self._limits = limits
        self._metrics = metrics
        self._part_bytes = min(MESSAGE_BYTES, int(limits.chunk_bytes))

    async def run(self, request: BatchReadFilesRequest, context: ServicerContext[Any, Any]) -> None:
        """Write the messages, serialized; the trailers say what they cost.

        Raises:
            ShuttingDownError: the server leaves; what was not sent is to be asked for again.
        """
        # Not for as long as it takes: a client that does not read would keep the server from leaving.
        await self._leaving.unless(self._send(request, context), grace_s=SLOW_READER_S)

    async def _send(self, request: BatchReadFilesRequest, context: ServicerContext[Any, Any]) -> None:
        wanted = self._wanted(request)
        omit_info = request.omit_file_info
        cost = ReadCost()
        pieces: list[bytes] = []
        size = files = data_bytes = 0
        async with contextlib.aclosing(
            self._node.read_many(wanted, part_bytes=self._part_bytes, cost=cost)
        ) as groups:
            async for parts in groups:
                for part in parts:
                    made, length = _encode(part, omit_info=omit_info)
                    if size and size + length > MESSAGE_BYTES:
                        await context.write(b"".join(pieces))
                        pieces, size = [], 0
                    pieces += made
                    size += length
                    data_bytes += len(part.data)
                    files += part.last
                if self._leaving.has_begun and files < len(wanted):
                    break
        if pieces:
            await context.write(b"".join(pieces))
        context.set_trailing_metadata((*context.trailing_metadata(), *cost_trailers(cost)))
        self._metrics.got_many(files=files, size=data_bytes, requests=cost.requests, stored_bytes=cost.bytes)
        if files < len(wanted):
            self._leaving.check()

    def _wanted(self, request: BatchReadFilesRequest) -> list[Wanted]:
        check_count(len(request.items), self._limits)
        return [_wanted(item) for item in request.items]


def check_count(count: int, limits: LimitSettings) -> None:
    """Refuse a batch of more items than allowed.

    Raises:
        MessageTooLargeError: it has.
    """
    if count > limits.batch_items:
        raise MessageTooLargeError(
            f"the request has {count} items, at most {limits.batch_items} are allowed",
            size=count,
            max_size=limits.batch_items,
        )


def _wanted(item: ReadItem) -> Wanted:
    if not item.HasField("range"):
        return Wanted(item.name)
    return Wanted(item.name, item.range.offset, item.range.limit)


def _encode(part: Part, *, omit_info: bool) -> tuple[list[bytes], int]:
    index, info, offset, data, crc32c, last, error = part
    if error is not None:
        return wire.file_part(
            index=index,
            info=b"",
            offset=0,
            data=b"",
            crc32c=0,
            last=True,
            status=item_status(error).SerializeToString(),
        )
    encoded = b"" if info is None or omit_info else wire.file_info(info)
    return wire.file_part(index=index, info=encoded, offset=offset, data=data, crc32c=crc32c, last=last)
