"""`FileService.GetFile`: one file, or a window of it, out as a stream of messages."""

from collections.abc import AsyncIterator
from typing import Final

import google_crc32c
from des_proto.v1.file_service_pb2 import GetFileRequest, GetFileResponse

from des.config import LimitSettings
from des.errors import InvalidInputError
from des.files import BLOCK_SIZE
from des.monitoring.metrics import NodeMetrics
from des.node import Node
from des.retrieval import ReadCost
from des_server import convert
from des_server.interceptors.calls import Outgoing

REQUESTS_KEY: Final = "des-object-store-requests"
BYTES_KEY: Final = "des-object-store-bytes"
CHUNK_BYTES_MIN: Final = 4 << 10
"""Smaller messages would cost the server more than they could be worth to anyone."""


class GetFile:
    """Sends files out: a small whole file as one message, anything else chunk by chunk."""

    def __init__(self, node: Node, limits: LimitSettings, metrics: NodeMetrics) -> None:
        self._node = node
        self._limits = limits
        self._metrics = metrics

    async def run(self, request: GetFileRequest, outgoing: Outgoing) -> GetFileResponse:
        """Write the messages but the last, and return that.

        The first has what is known of the file, and data where there is any.
        """
        chunk_bytes = self._chunk_bytes(request.chunk_bytes)
        opened = await self._node.open_file(request.name)
        info = opened.info
        start, stop = (
            convert.window_from_wire(request.range, info.size)
            if request.HasField("range")
            else (0, info.size)
        )
        message = convert.first_message(info, start=start, stop=stop)
        if (start, stop) == (0, info.size) and info.size <= min(chunk_bytes, BLOCK_SIZE):
            # The bytes were verified against this very checksum on their way out of the store.
            chunk = message.chunk
            chunk.data = await opened.read_whole()
            chunk.crc32c = info.crc32c
        elif start == stop:
            message.chunk.crc32c = 0
        else:
            async for data in _sliced(opened.read(start, stop), chunk_bytes):
                if message.HasField("chunk"):
                    await outgoing.write(message)
                    message = GetFileResponse()
                message.chunk.data = data
                message.chunk.crc32c = google_crc32c.value(data)
        cost = opened.cost
        outgoing.trailers = cost_trailers(cost) if cost.requests else _FREE
        self._metrics.got(size=stop - start, requests=cost.requests, stored_bytes=cost.bytes)
        return message

    def _chunk_bytes(self, asked: int) -> int:
        if asked < 0:
            raise InvalidInputError(f"chunk_bytes is {asked}, expected 0 or more", field="chunk_bytes")
        asked = asked or self._limits.preferred_chunk_bytes
        return max(CHUNK_BYTES_MIN, min(asked, self._limits.chunk_bytes))


def cost_trailers(cost: ReadCost) -> tuple[tuple[str, str], ...]:
    """Return what a read has cost at the object store, as trailers."""
    return (REQUESTS_KEY, str(cost.requests)), (BYTES_KEY, str(cost.bytes))


_FREE: Final = cost_trailers(ReadCost())


async def _sliced(blocks: AsyncIterator[bytes], size_max: int) -> AsyncIterator[bytes]:
    async for block in blocks:
        if len(block) <= size_max:
            yield block
            continue
        view = memoryview(block)
        for start in range(0, len(block), size_max):
            yield bytes(view[start : start + size_max])
