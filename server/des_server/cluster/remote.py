"""Files at another node, as the parts of this server see them that know only their own node."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import google_crc32c
import grpc
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import GetFileRequest, GetFileResponse, PutFileRequest, PutFileResponse
from grpc.aio import AioRpcError, Channel

from des.errors import CorruptError, UnavailableError
from des.files import FileInfo, FileSpec
from des.node import PutResult
from des.retrieval import ReadCost
from des_server.cluster.onward import Onward
from des_server.from_wire import error_from_call, put_result_from_wire, spec_to_wire

FILE_SERVICE: Final = "/des.v1.FileService"


class RemoteFile:
    """An open file of another node (`OpenedFile`)."""

    def __init__(self, channel: Channel, call: Onward, info: FileInfo) -> None:
        self.info = info
        self.cost = ReadCost()
        self._channel = channel
        self._call = call

    async def read_whole(self) -> bytes:
        """Return all bytes."""
        return b"".join([piece async for piece in self.read(0, self.info.size)])

    async def read(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes `[start, stop)`, checked once more on this side."""
        if start == stop:
            return
        get: grpc.aio.UnaryStreamMultiCallable[GetFileRequest, GetFileResponse] = self._channel.unary_stream(
            f"{FILE_SERVICE}/GetFile",
            request_serializer=GetFileRequest.SerializeToString,
            response_deserializer=GetFileResponse.FromString,
        )
        wanted = types_pb2.ByteRange(offset=start, limit=stop - start)
        receiving = get(
            GetFileRequest(name=self.info.name, range=wanted),
            metadata=self._call.metadata,
            timeout=self._call.timeout_s,
        )
        try:
            async for message in receiving:
                data = message.chunk.data
                if google_crc32c.value(data) != message.chunk.crc32c:
                    raise CorruptError(f"bytes of {self.info.name!r} changed between two nodes")
                if data:
                    yield data
        except AioRpcError as error:
            raise error_from_call(error) from error
        finally:
            receiving.cancel()


class RemoteUpload:
    """A file that arrives here in parts and goes on to another node (`Upload`)."""

    def __init__(self, channel: Channel, call: Onward, spec: FileSpec, *, chunk_bytes: int) -> None:
        put: grpc.aio.StreamUnaryMultiCallable[PutFileRequest, PutFileResponse] = channel.stream_unary(
            f"{FILE_SERVICE}/PutFile",
            request_serializer=PutFileRequest.SerializeToString,
            response_deserializer=PutFileResponse.FromString,
        )
        self._call = put(metadata=call.metadata, timeout=call.timeout_s)
        self._spec: FileSpec | None = spec
        self._chunk_bytes = chunk_bytes
        self.received = 0
        """Bytes taken so far."""

    async def write(self, data: bytes) -> None:
        """Send `data` on; returns when the other node can take more.

        Raises:
            DesError: as the other node says.
        """
        for start in range(0, len(data), self._chunk_bytes):
            await self._send(self._message(data[start : start + self._chunk_bytes]))

    async def finish(self, crc32c: int | None = None, sha256: bytes | None = None) -> PutResult:
        """Say that this was all, and return what became of the file. Same errors as `write`."""
        message = self._message(b"")
        message.finish = True
        if crc32c is not None:
            message.checksums.crc32c = crc32c
        if sha256 is not None:
            message.checksums.sha256 = sha256
        await self._send(message)
        try:
            await self._call.done_writing()
            return put_result_from_wire(await self._call)
        except AioRpcError as error:
            raise error_from_call(error) from error

    async def abort(self) -> None:
        """Give the file up, unless it is finished."""
        self._call.cancel()

    def _message(self, data: bytes) -> PutFileRequest:
        message = PutFileRequest(write_offset=self.received)
        if self._spec is not None:
            message.spec.CopyFrom(spec_to_wire(self._spec))
            self._spec = None
        message.chunk.data = data
        message.chunk.crc32c = google_crc32c.value(data)
        self.received += len(data)
        return message

    async def _send(self, message: PutFileRequest) -> None:
        try:
            await self._call.write(message)
        except (AioRpcError, asyncio.InvalidStateError) as error:
            # The call has ended; what it ended with says more than that it takes no message.
            try:
                await self._call
            except AioRpcError as ended:
                raise error_from_call(ended) from ended
            raise UnavailableError("another node ended the upload before it was whole") from error
