"""The asyncio client: the same calls as the blocking one, over grpc.aio."""

import asyncio
import contextlib
import itertools
import os
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import BinaryIO, Self, TypeVar, cast

from des_proto.v1 import (
    file_service_pb2,
    file_service_pb2_grpc,
    naming_service_pb2_grpc,
    shard_service_pb2_grpc,
    system_service_pb2,
    system_service_pb2_grpc,
)
from grpc import aio

from des_client import calls, convert, reader, target_file, upload
from des_client.aio_outcome import Outcome
from des_client.async_source import AsyncData, AsyncSource, from_source, open_async_source
from des_client.channels import DEFAULT_TARGET, ChannelOptions, Endpoints, TlsConfig, endpoints
from des_client.download import Download
from des_client.errors import (
    ClientClosed,
    DesClientError,
    FailedCall,
    FileMissing,
    UploadInterrupted,
    WrongLoop,
    from_call,
)
from des_client.retry import NO_RETRY, TRANSFER_RATE_MIN, Attempts, Pace, RetryConfig
from des_client.source import MemorySource
from des_client.types import (
    AssignedName,
    Durability,
    FileInfo,
    Progress,
    PutResult,
    SealResult,
    ServerInfo,
    ShardInfo,
)

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

OnProgress = Callable[[Progress], None]
"""Told how far a transfer is, after every message, on the event loop. What it raises ends the transfer."""


class _Channel:
    """One connection and its calls."""

    def __init__(self, target: str, config: Endpoints) -> None:
        self.channel = (
            aio.insecure_channel(target, config.options)
            if config.credentials is None
            else aio.secure_channel(target, config.credentials, config.options)
        )
        files: file_service_pb2_grpc.FileServiceAsyncStub
        files = file_service_pb2_grpc.FileServiceStub(self.channel)
        shards: shard_service_pb2_grpc.ShardServiceAsyncStub
        shards = shard_service_pb2_grpc.ShardServiceStub(self.channel)
        names: naming_service_pb2_grpc.NamingServiceAsyncStub
        names = naming_service_pb2_grpc.NamingServiceStub(self.channel)
        system: system_service_pb2_grpc.SystemServiceAsyncStub
        system = system_service_pb2_grpc.SystemServiceStub(self.channel)
        self.put_file = files.PutFile
        # On the wire a stream of one message is a unary call, and this form is the cheaper one.
        self.put_whole: aio.UnaryUnaryMultiCallable[
            file_service_pb2.PutFileRequest, file_service_pb2.PutFileResponse
        ] = self.channel.unary_unary(
            calls.PUT_FILE,
            file_service_pb2.PutFileRequest.SerializeToString,
            file_service_pb2.PutFileResponse.FromString,
        )
        self.get_file = files.GetFile
        self.stat_file = files.StatFile
        self.assign_name = names.AssignName
        self.shard_status = shards.ShardStatus
        self.seal_shard = shards.SealShard
        self.get_server_info = system.GetServerInfo


class AsyncDesClient:
    """A store, from asyncio code. Any number of tasks of one event loop may share one.

    It belongs to the loop in which it is first used; another one gets `WrongLoop`.

    >>> async def main() -> bytes:
    ...     async with AsyncDesClient("127.0.0.1:7420") as des:
    ...         put = await des.put(b"hello")
    ...         return await des.get(put.file.name)
    >>> asyncio.run(main())
    b'hello'
    """

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        tls: TlsConfig | bool | None = None,
        token: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryConfig | None = RetryConfig(),  # noqa: B008  frozen
        verify: bool = True,
        metadata: Mapping[str, str] = {},
        channels: int = 1,
        allow_insecure_token: bool = False,
        options: ChannelOptions = (),
    ) -> None:
        """Take note of where the store is, as `DesClient` does; needs no running loop."""
        self._endpoints = endpoints(
            target,
            tls=tls,
            token=token,
            allow_insecure_token=allow_insecure_token,
            metadata=metadata,
            channels=channels,
            options=options,
        )
        self._metadata = self._endpoints.metadata
        self._timeout_s = calls.check_timeout(timeout_s)
        self._retry = retry or NO_RETRY
        self._verify = verify
        self._channels: list[_Channel] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = itertools.count()
        self._closing = asyncio.Event()
        self._server_info: ServerInfo | None = None
        self._chunk_bytes = upload.CHUNK_BYTES_DEFAULT

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(dict.fromkeys(self._endpoints.targets))!r})"

    async def __aenter__(self) -> Self:
        self._own_loop()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls under way in other tasks end with an error."""
        if self._loop is not None:
            self._own_loop()
        self._closing.set()
        for one in self._channels:
            await one.channel.close()

    # --- files -----------------------------------------------------------------------------

    async def put(
        self,
        data: AsyncData,
        *,
        name: str | None = None,
        prefix: str = "",
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        size: int | None = None,
        request_id: str | None = None,
        durability: Durability | None = None,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> PutResult:
        """Store one file; see `DesClient.put`.

        `data` may be an asynchronous iterable of bytes, too. Files, paths and plain iterators are read
        in a worker thread.
        """
        timeout_s = calls.timeout(timeout_s, self._timeout_s)
        loop = self._own_loop()
        if name is None and request_id is None:
            request_id = str(uuid.uuid4())
        spec = convert.file_spec(
            name=name,
            prefix=prefix,
            content_type=content_type,
            metadata=metadata,
            durability=durability,
            request_id=request_id,
        )
        source = await open_async_source(data, size)
        try:
            content = await source.whole(self._chunk_bytes)
            if content is not None:
                calls.check_size(source, content)
                answer = await self._put_whole(spec, content, timeout_s, request_id)
                if answer is not None:
                    if on_progress is not None:
                        on_progress(Progress(len(content), len(content)))
                    return convert.put_result(answer)
                source.close()
                source = from_source(MemorySource(content))
            answer = await self._put_stream(loop, spec, source, timeout_s, request_id, on_progress)
        finally:
            source.close()
        return convert.put_result(answer)

    async def _put_whole(
        self, spec: file_service_pb2.FileSpec, content: bytes, timeout_s: float, request_id: str | None
    ) -> file_service_pb2.PutFileResponse | None:
        """Put in one message; None when the server takes only smaller ones."""
        request = upload.whole(spec, content, with_checksums=self._verify)
        try:
            return await self._call(lambda channel: channel.put_whole, request, timeout_s, request_id)
        except DesClientError as failed:
            if failed.reason != "MESSAGE_TOO_LARGE" or self._server_info is not None:
                raise
            await self._learn_limits(timeout_s)
            if self._chunk_bytes >= len(content):
                raise
        return None

    async def _put_stream(
        self,
        loop: asyncio.AbstractEventLoop,
        spec: file_service_pb2.FileSpec,
        source: AsyncSource,
        timeout_s: float,
        request_id: str | None,
        on_progress: OnProgress | None,
    ) -> file_service_pb2.PutFileResponse:
        attempts = Attempts(self._retry, random.random)
        pace = Pace(loop.time(), timeout_s, self._retry.attempt_timeout_s)
        await self._learn_limits(timeout_s)
        total_s = None if source.size is None else timeout_s + source.size / TRANSFER_RATE_MIN
        failed: DesClientError | None = None
        while True:
            plan = upload.Upload(spec, source.size, with_checksums=self._verify)
            scope = asyncio.timeout_at(pace.begin(loop.time()))
            try:
                async with scope:
                    chunks = source.chunks(self._chunk_bytes)
                    return await self._send(plan, chunks, scope, pace, total_s, request_id, on_progress)
            except TimeoutError:
                if not scope.expired():
                    raise
                failed = calls.silent("upload", plan.built)
            except UploadInterrupted as unreadable:
                raise unreadable from failed
            except DesClientError as error:
                failed = error
            await self._wait_or_raise(attempts, failed, pace.left_s(loop.time(), silent=scope.expired()))

    async def _send(
        self,
        plan: upload.Upload,
        chunks: AsyncIterator[bytes],
        scope: asyncio.Timeout,
        pace: Pace,
        total_s: float | None,
        request_id: str | None,
        on_progress: OnProgress | None,
    ) -> file_service_pb2.PutFileResponse:
        loop = asyncio.get_running_loop()
        messages = plan.messages_async(chunks)
        # Read before calling: a source that cannot be read costs the server nothing.
        message = await anext(messages)
        call = self._channel().put_file(timeout=total_s, metadata=self._metadata)
        outcome = Outcome(call)
        done = 0
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
            return await call
        except aio.AioRpcError as failed:
            raise self._error(await outcome.of(failed), request_id) from failed
        except asyncio.CancelledError:
            call.cancel()
            self._raise_if_closed()
            raise
        except BaseException:
            call.cancel()
            raise

    async def get(
        self,
        name: str,
        *,
        offset: int = 0,
        limit: int | None = None,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> bytes:
        """Return a file's content, or a part of it; see `DesClient.get`."""
        calls.check_limit(limit)
        if limit == 0:
            return calls.nothing(await self.stat(name, timeout_s=timeout_s), offset)
        pieces: list[bytes] = []
        await self._receive(
            Download(name, offset=offset, limit=limit, verify=self._verify),
            pieces.append,
            None,
            timeout_s,
            on_progress,
        )
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def get_to(
        self,
        name: str,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        offset: int = 0,
        limit: int | None = None,
        fsync: bool = False,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> FileInfo:
        """Write a file's content to a path or into a binary file; see `DesClient.get_to`.

        Writing happens in a worker thread.
        """
        download = Download(name, offset=offset, limit=limit, verify=self._verify)
        writer = _Writer(target)
        try:
            await self._receive(download, None, writer.write, timeout_s, on_progress)
            await writer.commit(fsync=fsync)
        except BaseException:
            writer.discard()
            raise
        return download.file

    async def open(self, name: str, *, buffer_bytes: int = reader.BUFFER_BYTES) -> reader.AsyncFileReader:
        """Open a file for reading and seeking: `async with await des.open(name) as file`.

        Costs one call now and one for every `buffer_bytes` read; a seek costs nothing.

        Raises:
            FileMissing: no such file.
        """
        info = await self.stat(name)
        return reader.AsyncFileReader(
            info, lambda offset, limit: self.get(name, offset=offset, limit=limit), buffer_bytes
        )

    async def _receive(
        self,
        download: Download,
        keep: Callable[[bytes], object] | None,
        write: Callable[[bytes], Awaitable[object]] | None,
        timeout_s: float | None,
        on_progress: OnProgress | None,
    ) -> None:
        loop = self._own_loop()
        pace = Pace(loop.time(), calls.timeout(timeout_s, self._timeout_s), self._retry.attempt_timeout_s)
        attempts: Attempts | None = None
        while True:
            before = download.received
            call = self._channel().get_file(download.request(), metadata=self._metadata)
            scope = asyncio.timeout_at(pace.begin(loop.time()))
            try:
                async with scope:
                    # Anything else is grpc.aio.EOF.
                    while isinstance(response := await call.read(), file_service_pb2.GetFileResponse):
                        data = download.accept(response)
                        if data:
                            if keep is not None:
                                keep(data)
                            if write is not None:
                                await write(data)
                            if on_progress is not None:
                                on_progress(Progress(download.received, download.total_bytes))
                        deadline_at = pace.moved(len(data), loop.time())
                        if not download.complete:
                            scope.reschedule(deadline_at)
                download.end()
                return
            except aio.AioRpcError as failed:
                if download.complete:
                    return
                error = self._error(failed, None)
            except TimeoutError:
                call.cancel()
                if not scope.expired():
                    raise
                error = calls.silent("download", download.received)
            except DesClientError as failed:
                call.cancel()
                error = failed
            except asyncio.CancelledError:
                call.cancel()
                self._raise_if_closed()
                raise
            except BaseException:
                call.cancel()
                raise
            if attempts is None:
                attempts = Attempts(self._retry, random.random)
            if download.received > before:
                attempts.progressed()
            await self._wait_or_raise(attempts, error, pace.left_s(loop.time(), silent=scope.expired()))

    async def stat(self, name: str, *, timeout_s: float | None = None) -> FileInfo:
        """Return all that is known about a file; see `DesClient.stat`."""
        answer = await self._call(
            lambda channel: channel.stat_file,
            calls.stat_request(name),
            calls.timeout(timeout_s, self._timeout_s),
        )
        return convert.file_info(answer.file)

    async def exists(self, name: str, *, timeout_s: float | None = None) -> bool:
        """Return whether there is such a file. "I cannot tell" is an error, never False."""
        try:
            await self.stat(name, timeout_s=timeout_s)
        except FileMissing:
            return False
        return True

    # --- names, shards, server ---------------------------------------------------------------

    async def assign_names(
        self,
        count: int = 1,
        *,
        prefix: str = "",
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> list[AssignedName]:
        """Reserve names for files to be put later; the same `request_id` gives the same names again."""
        request_id = request_id or str(uuid.uuid4())
        answer = await self._call(
            lambda channel: channel.assign_name,
            calls.assign_request(count, prefix, request_id),
            calls.timeout(timeout_s, self._timeout_s),
            request_id,
        )
        return convert.assigned_names(answer)

    async def shard_status(
        self, shard_ids: Iterable[int] | None = None, *, timeout_s: float | None = None
    ) -> list[ShardInfo]:
        """Return the state of some shards, or of all, by shard id."""
        pages = calls.ShardPages(shard_ids)
        while (request := pages.request()) is not None:
            page = await self._call(
                lambda channel: channel.shard_status, request, calls.timeout(timeout_s, self._timeout_s)
            )
            pages.accept(page)
        return pages.shards

    async def seal_shard(
        self, shard_id: int, *, request_id: str | None = None, timeout_s: float | None = None
    ) -> SealResult:
        """Seal what the shard holds open now; returns when its containers are recorded."""
        request_id = request_id or str(uuid.uuid4())
        answer = await self._call(
            lambda channel: channel.seal_shard,
            calls.seal_request(shard_id, request_id),
            calls.timeout(timeout_s, self._timeout_s),
            request_id,
        )
        return convert.seal_result(answer)

    async def server_info(self, *, refresh: bool = False, timeout_s: float | None = None) -> ServerInfo:
        """Return the server's version, features and limits; asked once per client unless `refresh`."""
        if self._server_info is None or refresh:
            return await self._ask_server_info(calls.timeout(timeout_s, self._timeout_s))
        return self._server_info

    async def _ask_server_info(self, timeout_s: float, retry: RetryConfig | None = None) -> ServerInfo:
        answer = await self._call(
            lambda channel: channel.get_server_info,
            system_service_pb2.GetServerInfoRequest(),
            timeout_s,
            retry=retry,
        )
        info = convert.server_info(answer)
        self._chunk_bytes = upload.chunk_bytes(info.limits)
        self._server_info = info
        return info

    # --- calls ---------------------------------------------------------------------------------

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, which must be the one this client first ran in."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return loop
        if self._loop is not None:
            raise WrongLoop(
                "this AsyncDesClient belongs to another event loop: make one client per loop, "
                "inside the coroutine that uses it"
            )
        if not self._closing.is_set():
            self._channels = [_Channel(one, self._endpoints) for one in self._endpoints.targets]
        self._loop = loop
        return loop

    async def _learn_limits(self, timeout_s: float) -> None:
        """Size messages by the server's limits; one that does not tell them soon gets the defaults."""
        if self._server_info is None:
            with contextlib.suppress(DesClientError):
                await self._ask_server_info(min(timeout_s / 4, calls.LIMITS_TIMEOUT_S), NO_RETRY)

    def _channel(self) -> _Channel:
        if self._closing.is_set():
            raise ClientClosed("the client is closed")
        channels = self._channels
        return channels[next(self._turn) % len(channels)] if len(channels) > 1 else channels[0]

    async def _call(
        self,
        method: "Callable[[_Channel], aio.UnaryUnaryMultiCallable[RequestT, ResponseT]]",
        request: RequestT,
        timeout_s: float,
        request_id: str | None = None,
        *,
        retry: RetryConfig | None = None,
    ) -> ResponseT:
        """Make a call of one request and one answer, as often as it takes."""
        loop = self._own_loop()
        ends_at = loop.time() + timeout_s
        retry = retry or self._retry
        attempt_s = retry.attempt_timeout_s
        attempts: Attempts | None = None
        while True:
            limit_s = timeout_s if attempt_s is None else min(timeout_s, attempt_s)
            try:
                return await method(self._channel())(request, timeout=limit_s, metadata=self._metadata)
            except aio.AioRpcError as failed:
                error = self._error(failed, request_id)
            except asyncio.CancelledError:
                self._raise_if_closed()
                raise
            if attempts is None:
                attempts = Attempts(retry, random.random)
            await self._wait_or_raise(attempts, error, ends_at - loop.time())
            timeout_s = ends_at - loop.time()

    def _error(self, failed: FailedCall, request_id: str | None) -> DesClientError:
        if self._closing.is_set():
            return ClientClosed("the client was closed while the call ran")
        return from_call(failed, request_id=request_id)

    def _raise_if_closed(self) -> None:
        """Tell a call that `close` ended from a task that somebody cancelled."""
        task = asyncio.current_task()
        if self._closing.is_set() and (task is None or not task.cancelling()):
            raise ClientClosed("the client was closed while the call ran") from None

    async def _wait_or_raise(self, attempts: Attempts, error: DesClientError, remaining_s: float) -> None:
        wait_s = attempts.wait_s(error, remaining_s)
        if wait_s is None:
            raise error
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._closing.wait()
                raise ClientClosed("the client was closed while the call ran") from error


class _Writer:
    """A download's target, written by worker threads."""

    def __init__(self, target: str | os.PathLike[str] | BinaryIO) -> None:
        # Not in a thread: a cancelled wait for it would leave an empty file that nobody removes.
        self._pending = target_file.TargetFile(target) if isinstance(target, str | os.PathLike) else None
        self._file = self._pending.file if self._pending is not None else cast("BinaryIO", target)

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(target_file.write_all, self._file, data)

    async def commit(self, *, fsync: bool) -> None:
        if self._pending is not None:
            await asyncio.to_thread(self._pending.commit, fsync=fsync)

    def discard(self) -> None:
        if self._pending is not None:
            self._pending.discard()
