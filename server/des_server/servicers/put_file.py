"""`FileService.PutFile`: one stream of messages into one file (DESIGN §3)."""

import asyncio
import contextlib
import hashlib
import time
from typing import Final

from des_proto.v1.file_service_pb2 import PutFileRequest

from des.config import LimitSettings
from des.errors import DesError, InvalidInputError
from des.files import Durability, FileSpec
from des.monitoring.metrics import NodeMetrics
from des.node import Node, PutResult
from des.node.write_rules import FileTooLargeError, UploadSizeMismatchError
from des_server import convert
from des_server.credits import ByteCredits, Loan
from des_server.errors import OffsetMismatchError, StreamIncompleteError
from des_server.interceptors.calls import Incoming
from des_server.pace import Pace
from des_server.servicers.claims import Claims, check_chunk, check_crc32c, check_sha256
from des_server.stalls import StallWatch

CANCELLATION_LAG_S: Final = 0.02


class PutFile:
    """Takes files in: a file of one message in one step, a longer one part by part."""

    def __init__(self, node: Node, limits: LimitSettings, lending: ByteCredits, metrics: NodeMetrics) -> None:
        self._node = node
        self._limits = limits
        self._lending = lending
        self._metrics = metrics
        self._watch = StallWatch(limits.stall_s)

    async def run(self, requests: Incoming[PutFileRequest]) -> PutResult | int:
        """Receive one file and return when it is as durable as the answer says.

        For a resumable upload that is not finished yet: return how many bytes of it are kept.
        """
        first = await self._watch.read(requests)
        if first is None:
            raise StreamIncompleteError("the stream held no message", position=0)
        if first.WhichOneof("target") == "upload_id":
            return await self._resumed(first, requests)
        spec = self._spec(first)
        if first.finish:
            result = await self._whole(spec, first, requests)
        else:
            result = await self._parts(spec, first, requests)
        self._metrics.put(size=result.file.size, already_existed=result.already_existed)
        return result

    async def _whole(
        self, spec: FileSpec, message: PutFileRequest, requests: Incoming[PutFileRequest]
    ) -> PutResult:
        data, crc32c = self._chunk(message, offset=0)
        self._check_size(spec, len(data), finished=True)
        if message.HasField("checksums"):
            claims = Claims()
            claims.add(message.checksums)
            if claims.crc32c is not None:
                check_crc32c(claims.crc32c, crc32c, scope="file")
            if claims.sha256 is not None:
                check_sha256(claims.sha256, hashlib.sha256(data).digest())
        borrowed = await self._lending.borrow(len(data))
        try:
            await self._expect_end(requests)
            return await self._node.put_bytes(spec, data, crc32c)
        finally:
            self._lending.give_back(borrowed)

    async def _parts(
        self, spec: FileSpec, message: PutFileRequest, requests: Incoming[PutFileRequest]
    ) -> PutResult:
        loan = Loan(self._lending)
        pace = self._pace()
        claims = Claims()
        claims.add(message.checksums)
        received = 0
        upload = None
        try:
            while True:
                data, _ = self._chunk(message, offset=received)
                received += len(data)
                self._check_size(spec, received, finished=message.finish)
                await loan.grow_to(len(data))
                if upload is None:
                    upload = await self._node.begin_put(spec)
                await upload.write(data)
                if message.finish:
                    break
                following = await self._following(requests, pace)
                if following is None:
                    # A client that has left looks the same until the cancellation arrives.
                    await asyncio.sleep(CANCELLATION_LAG_S)
                    raise StreamIncompleteError(
                        f"the stream ended after {received} bytes without `finish`", position=received
                    )
                message = following
                self._check_later(message)
                claims.add(message.checksums)
            await self._expect_end(requests)
            return await upload.finish(claims.crc32c, claims.sha256)
        finally:
            try:
                if upload is not None:
                    with contextlib.suppress(DesError):  # the first error says more
                        await asyncio.shield(upload.abort())
            finally:
                loan.give_back()

    async def _resumed(self, message: PutFileRequest, requests: Incoming[PutFileRequest]) -> PutResult | int:
        """Go on with an upload; every message is kept before the next is read."""
        writer = await self._node.uploads.resume(message.upload_id)
        loan = Loan(self._lending)
        pace = self._pace()
        claims = Claims()
        try:
            if writer.finished is not None:
                return PutResult(writer.finished, already_existed=True, durability=Durability.LOCAL)
            writer.check_offset(message.write_offset)
            while True:
                claims.add(message.checksums)
                data, _ = check_chunk(message.chunk, self._limits.chunk_bytes)
                await loan.grow_to(len(data))
                await writer.write(message.write_offset, data)
                if message.finish:
                    await self._expect_end(requests)
                    result = await writer.finish(claims.crc32c, claims.sha256)
                    self._metrics.put(size=result.file.size, already_existed=result.already_existed)
                    return result
                following = await self._following(requests, pace)
                if following is None:
                    return writer.size
                message = following
                self._check_later(message)
        finally:
            writer.close()
            loan.give_back()

    def _pace(self) -> Pace:
        return Pace(self._limits.bytes_per_s_min, self._limits.stall_s)

    async def _following(self, requests: Incoming[PutFileRequest], pace: Pace) -> PutFileRequest | None:
        """Return the next message of a file that has begun, None after the last."""
        before = time.monotonic()
        message = await self._watch.read(requests)
        if message is not None:
            pace.count(len(message.chunk.data), time.monotonic() - before)
        return message

    async def _expect_end(self, requests: Incoming[PutFileRequest]) -> None:
        """Nothing is stored before the stream has ended as `finish` said it would."""
        if await self._watch.read(requests) is not None:
            raise InvalidInputError("a message followed the one with `finish`", field="finish")

    def _spec(self, message: PutFileRequest) -> FileSpec:
        match message.WhichOneof("target"):
            case "spec":
                return convert.spec_from_wire(message.spec)
            case _:
                raise StreamIncompleteError("the first message has no spec", position=0)

    @staticmethod
    def _check_later(message: PutFileRequest) -> None:
        if (target := message.WhichOneof("target")) is not None:
            raise InvalidInputError(f"{target} is allowed in the first message only", field=target)
        if message.HasField("checksums") and not message.finish:
            raise InvalidInputError(
                "checksums are allowed in the first and the last message only", field="checksums"
            )

    def _chunk(self, message: PutFileRequest, *, offset: int) -> tuple[bytes, int]:
        """Return the message's data and its CRC32C, both checked."""
        if message.write_offset != offset:
            raise OffsetMismatchError(
                f"write_offset is {message.write_offset}, {offset} bytes were received so far",
                expected_offset=offset,
                actual_offset=message.write_offset,
            )
        return check_chunk(message.chunk, self._limits.chunk_bytes)

    def _check_size(self, spec: FileSpec, received: int, *, finished: bool) -> None:
        largest = max(received, spec.size or 0)
        if largest > self._limits.file_bytes:
            raise FileTooLargeError(
                f"the file has {largest} bytes, at most {self._limits.file_bytes} are allowed",
                size=largest,
                max_size=int(self._limits.file_bytes),
            )
        if spec.size is not None and (received > spec.size or (finished and received < spec.size)):
            raise UploadSizeMismatchError(
                f"{received} bytes arrived, {spec.size} were declared", expected=spec.size, actual=received
            )
