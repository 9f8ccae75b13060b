"""Puts on the wire: one message, a stream, or a stream that goes on where it broke."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

from des_proto.v1 import (
    file_service_pb2,
)
from grpc import aio

from des_client import calls, upload
from des_client.aio.outcome import Outcome
from des_client.aio.transport import AsyncTransport
from des_client.async_source import AsyncData, AsyncSource, from_source, open_async_source
from des_client.errors import (
    DesClientError,
    FeatureDisabled,
    NotFound,
    UploadInterrupted,
)
from des_client.retry import NO_RETRY, TRANSFER_RATE_MIN, Attempts, Pace
from des_client.road import Road
from des_client.source import MemorySource, Source
from des_client.types import Progress

OnProgress = Callable[[Progress], None]
"""Told how far a transfer is, after every message, on the event loop. What it raises ends the transfer."""


class AsyncUploads(AsyncTransport):
    """How files are put."""

    async def _put(
        self,
        spec: file_service_pb2.FileSpec,
        data: AsyncData,
        size: int | None,
        timeout_s: float,
        request_id: str | None,
        on_progress: OnProgress | None,
    ) -> file_service_pb2.PutFileResponse:
        self._own_loop()
        source = await open_async_source(data, size)
        try:
            content = await source.whole(self._chunk_bytes)
            if content is not None:
                calls.check_size(source, content)
                answer = await self._put_whole(spec, content, timeout_s, request_id)
                if answer is not None:
                    if on_progress is not None:
                        on_progress(Progress(len(content), len(content)))
                    return answer
                source.close()
                source = from_source(MemorySource(content))
            return await self._put_stream(spec, source, timeout_s, request_id, on_progress)
        finally:
            source.close()

    async def _put_source(
        self, spec: file_service_pb2.FileSpec, source: Source, timeout_s: float, request_id: str | None
    ) -> file_service_pb2.PutFileResponse:
        """Put what was opened elsewhere, and close it."""
        try:
            return await self._put_stream(spec, from_source(source), timeout_s, request_id, None)
        finally:
            source.close()

    async def _put_whole(
        self, spec: file_service_pb2.FileSpec, content: bytes, timeout_s: float, request_id: str | None
    ) -> file_service_pb2.PutFileResponse | None:
        """Put in one message; None when the server takes only smaller ones."""
        request = upload.whole(spec, content, with_checksums=self._verify)
        try:
            return await self._call(
                lambda channel: channel.put_whole, request, timeout_s, request_id, road=self._road(spec.name)
            )
        except DesClientError as failed:
            if failed.reason != "MESSAGE_TOO_LARGE" or self._server_info is not None:
                raise
            await self._learn_limits(timeout_s)
            if self._chunk_bytes >= len(content):
                raise
        return None

    async def _put_stream(
        self,
        spec: file_service_pb2.FileSpec,
        source: AsyncSource,
        timeout_s: float,
        request_id: str | None,
        on_progress: OnProgress | None,
    ) -> file_service_pb2.PutFileResponse:
        loop = self._own_loop()
        attempts = Attempts(self._retry, random.random)
        pace = Pace(loop.time(), timeout_s, self._retry.attempt_timeout_s)
        await self._learn_limits(timeout_s)
        total_s = None if source.size is None else timeout_s + source.size / TRANSFER_RATE_MIN
        plan = upload.Upload(spec, source.size, with_checksums=self._verify)
        resumable = upload.is_resumable(self._server_info, source.size, rereadable=source.rereadable)
        persisted = 0
        road = self._road(spec.name)
        failed: DesClientError | None = None
        while True:
            scope = asyncio.timeout_at(pace.begin(loop.time()))
            start = 0
            try:
                async with scope:
                    if resumable:
                        start, finished = await self._resume(plan, spec, timeout_s, road)
                        if finished is not None:
                            return finished
                        if start > persisted:
                            persisted = start
                            attempts.progressed()
                    else:
                        plan.restart()
                    chunks = source.chunks(self._chunk_bytes, start)
                    return await self._send(plan, chunks, scope, pace, total_s, request_id, on_progress, road)
            except FeatureDisabled as error:
                if not resumable or plan.upload_id:
                    raise
                resumable, failed = False, error
                continue
            except TimeoutError:
                if not scope.expired():
                    raise
                failed = calls.silent("upload", plan.built)
                self._strayed(road, failed)
            except UploadInterrupted as unreadable:
                raise unreadable from failed
            except DesClientError as error:
                failed = error
            if plan.upload_id and isinstance(failed, NotFound) and failed.reason == "UPLOAD_NOT_FOUND":
                # The server has forgotten it: from the beginning.
                plan.upload_id = ""
                failed = calls.forgotten(failed)
            try:
                left_s = pace.left_s(loop.time(), silent=scope.expired())
                await self._wait_or_raise(attempts, failed, left_s)
            except DesClientError:
                if plan.upload_id and not failed.retryable:
                    await self._give_up(plan.upload_id)
                raise

    async def _resume(
        self, plan: upload.Upload, spec: file_service_pb2.FileSpec, timeout_s: float, road: Road | None
    ) -> tuple[int, file_service_pb2.PutFileResponse | None]:
        """Start a resumable upload, or ask how much of it the server has, or that it is finished."""
        if not plan.upload_id:
            if road is not None:
                road.node = ""
            begun = await self._call(
                lambda channel: channel.files.StartUpload,
                file_service_pb2.StartUploadRequest(spec=spec),
                timeout_s,
                retry=NO_RETRY,
                road=road,
            )
            plan.upload_id = begun.upload_id
            if road is not None:
                # It stays there, whoever owns its shard by the end.
                road.node = road.told
            plan.restart()
            return 0, None
        status = await self._call(
            lambda channel: channel.files.GetUploadStatus,
            file_service_pb2.GetUploadStatusRequest(upload_id=plan.upload_id),
            timeout_s,
            retry=NO_RETRY,
            road=road,
        )
        if road is not None:
            road.strayed = False
        if status.HasField("file"):
            return 0, file_service_pb2.PutFileResponse(file=status.file)
        return plan.resume(status.persisted_size), None

    async def _give_up(self, upload_id: str) -> None:
        """Tell the server that an upload will not go on; it forgets it by itself later, too."""
        with contextlib.suppress(DesClientError):
            await self._call(
                lambda channel: channel.files.CancelUpload,
                file_service_pb2.CancelUploadRequest(upload_id=upload_id),
                calls.LIMITS_TIMEOUT_S,
                retry=NO_RETRY,
            )

    async def _send(
        self,
        plan: upload.Upload,
        chunks: AsyncIterator[bytes],
        scope: asyncio.Timeout,
        pace: Pace,
        total_s: float | None,
        request_id: str | None,
        on_progress: OnProgress | None,
        road: Road | None,
    ) -> file_service_pb2.PutFileResponse:
        loop = asyncio.get_running_loop()
        messages = plan.messages_async(chunks)
        # Read before calling: a source that cannot be read costs the server nothing.
        message = await anext(messages)
        channel = self._channel(road)
        call = channel.files.PutFile(timeout=total_s, metadata=self._headers(road))
        outcome = Outcome(call)
        done = plan.built - len(message.chunk.data)
        try:
            # InvalidStateError: the server has answered before the end. What, the last line says.
            with contextlib.suppress(asyncio.InvalidStateError):
                while True:
                    built = plan.built
                    await call.write(message)
                    scope.reschedule(pace.moved(built - done, loop.time()))
                    done = built
                    if on_progress is not None:
                        on_progress(Progress(done, plan.size))
                    if message.finish:
                        break
                    message = await anext(messages)
                # A connection that broke raises an error of gRPC's own here; the call knows which status.
                with contextlib.suppress(Exception):
                    await call.done_writing()
            answer = await call
            self._reached = True
            if road is not None and self._roads is not None:
                file = None if plan.upload_id else answer.file
                self._roads.answered(road, await call.trailing_metadata(), file)
            return answer
        except aio.AioRpcError as failed:
            ended = await outcome.of(failed)
            error = self._error(ended, request_id)
            self._strayed(road, error, ended)
            raise error from failed
        except asyncio.CancelledError:
            call.cancel()
            self._raise_if_closed()
            raise
        except BaseException:
            call.cancel()
            raise
