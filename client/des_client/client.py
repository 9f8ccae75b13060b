"""The blocking client."""

import contextlib
import itertools
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

import grpc
from des_proto.v1 import (
    file_service_pb2,
    file_service_pb2_grpc,
    naming_service_pb2_grpc,
    shard_service_pb2_grpc,
    system_service_pb2,
    system_service_pb2_grpc,
)

from des_client import calls, convert, reader, target_file, upload
from des_client.channels import DEFAULT_TARGET, ChannelOptions, Endpoints, TlsConfig, endpoints
from des_client.download import Download
from des_client.errors import (
    Cancelled,
    ClientClosed,
    DesClientError,
    FileMissing,
    UploadInterrupted,
    from_call,
)
from des_client.retry import NO_RETRY, TRANSFER_RATE_MIN, Attempts, Pace, RetryConfig
from des_client.source import Data, MemorySource, Source, open_source
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
from des_client.watch import Watchdog

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

OnProgress = Callable[[Progress], None]
"""Told how far a transfer is, after every message. What it raises ends the transfer."""


class _Channel:
    """One connection and its calls."""

    def __init__(self, target: str, config: Endpoints) -> None:
        # Downloads then run on the caller's own thread, without gRPC's "channel spin" thread.
        options = (*config.options, ("SingleThreadedUnaryStream", 1))
        self.channel = (
            grpc.insecure_channel(target, options)
            if config.credentials is None
            else grpc.secure_channel(target, config.credentials, options)
        )
        files = file_service_pb2_grpc.FileServiceStub(self.channel)
        shards = shard_service_pb2_grpc.ShardServiceStub(self.channel)
        self.put_file = files.PutFile
        # On the wire a stream of one message is a unary call, and this form needs no thread to feed it.
        self.put_whole: grpc.UnaryUnaryMultiCallable[
            file_service_pb2.PutFileRequest, file_service_pb2.PutFileResponse
        ] = self.channel.unary_unary(
            calls.PUT_FILE,
            file_service_pb2.PutFileRequest.SerializeToString,
            file_service_pb2.PutFileResponse.FromString,
        )
        self.get_file = files.GetFile
        self.stat_file = files.StatFile
        self.assign_name = naming_service_pb2_grpc.NamingServiceStub(self.channel).AssignName
        self.shard_status = shards.ShardStatus
        self.seal_shard = shards.SealShard
        self.get_server_info = system_service_pb2_grpc.SystemServiceStub(self.channel).GetServerInfo


class _Feed(Iterator[file_service_pb2.PutFileRequest]):
    """The messages of one upload attempt, pulled by a thread of gRPC's.

    After `stop` that thread gets nothing more, so that the next attempt has the source to itself.
    """

    def __init__(
        self, messages: Iterator[file_service_pb2.PutFileRequest], asked: Callable[[], None]
    ) -> None:
        self._messages = messages
        self._asked = asked
        self._lock = threading.Lock()
        self._stopped = False
        self.failure: BaseException | None = None
        """What the source raised, if it did."""
        self.cancel: Callable[[], object] | None = None
        """Ends the call; set once there is one."""

    def __next__(self) -> file_service_pb2.PutFileRequest:
        with self._lock:
            if self._stopped:
                raise StopIteration
            try:
                self._asked()
                return next(self._messages)
            except StopIteration:
                raise
            except BaseException as failed:  # noqa: BLE001  raised again by the thread that called put
                self.failure = failed
                self._stopped = True
                self.abort()
                raise StopIteration from None

    def abort(self) -> None:
        """End the call, if there is one yet."""
        if self.cancel is not None:
            self.cancel()

    def stop(self) -> None:
        """Give out no more messages; returns when no read of the source is under way."""
        with self._lock:
            self._stopped = True


class DesClient:
    """A store, from blocking code. Threads may share one.

    Connecting happens at the first call. Create it after forking, not before.

    >>> with DesClient("127.0.0.1:7420") as des:
    ...     name = des.put(b"hello", content_type="text/plain").file.name
    ...     des.get(name)
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
        """Take note of where the store is; nothing is connected yet.

        Args:
            target: host:port (or any gRPC target, `dns:///host:port`, `unix:/path`), or several nodes
                of one store, asked in turn.
            tls: True for TLS with public roots, a `TlsConfig` for others; None or False for plaintext.
            token: sent as `authorization: Bearer ...`; in clear text only to loopback targets.
            timeout_s: time for a call, all attempts together. A transfer of many messages may be silent
                for this long, and has this plus a second per 256 KiB in all.
            retry: None to try once.
            verify: make and check CRC32C of every chunk and whole file, in both directions.
            metadata: headers for every call.
            channels: connections per target. More than one helps where several server processes share
                a port, or one connection is the bottleneck.
            allow_insecure_token: let `token` cross a network in clear text.
            options: further gRPC channel arguments; they win over the client's own.

        Raises:
            InvalidArgument: one of them makes no sense.
        """
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
        self._channels = [_Channel(one, self._endpoints) for one in self._endpoints.targets]
        self._turn = itertools.count()
        self._watchdog = Watchdog()
        self._closing = threading.Event()
        self._server_info: ServerInfo | None = None
        self._chunk_bytes = upload.CHUNK_BYTES_DEFAULT

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(dict.fromkeys(self._endpoints.targets))!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calls under way in other threads end with an error."""
        self._closing.set()
        self._watchdog.close()
        for one in self._channels:
            one.channel.close()

    # --- files -----------------------------------------------------------------------------

    def put(
        self,
        data: Data,
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
        """Store one file.

        Safe to repeat: a name never changes content, and without a name one `request_id` goes with
        every attempt, so that a retry never makes a second file.

        Args:
            data: bytes, a path, a binary file (from its present position), or an iterable of bytes.
            name: a name from `assign_names`; None to have one assigned.
            prefix: first part of an assigned name.
            content_type: kept with the file.
            metadata: kept with the file.
            size: length of `data`, where it does not say itself; the server can then plan for it.
            request_id: a UUID of the caller's own, to repeat the call after a crash.
            durability: least promise wanted; None for the server's default.
            timeout_s: instead of the client's.
            on_progress: told after every message; for more than one message, on another thread.

        Raises:
            NameConflict: the name holds other content.
            UploadInterrupted: the connection broke, and `data` cannot be read again from the start.
            DesClientError: any other failure.
        """
        timeout_s = calls.timeout(timeout_s, self._timeout_s)
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
        source = open_source(data, size)
        try:
            content = source.whole(self._chunk_bytes)
            if content is not None:
                calls.check_size(source, content)
                answer = self._put_whole(spec, content, timeout_s, request_id)
                if answer is not None:
                    if on_progress is not None:
                        on_progress(Progress(len(content), len(content)))
                    return convert.put_result(answer)
                source.close()
                source = MemorySource(content)
            answer = self._put_stream(spec, source, timeout_s, request_id, on_progress)
        finally:
            source.close()
        return convert.put_result(answer)

    def _put_whole(
        self, spec: file_service_pb2.FileSpec, content: bytes, timeout_s: float, request_id: str | None
    ) -> file_service_pb2.PutFileResponse | None:
        """Put in one message; None when the server takes only smaller ones."""
        request = upload.whole(spec, content, with_checksums=self._verify)
        try:
            return self._call(lambda channel: channel.put_whole, request, timeout_s, request_id)
        except DesClientError as failed:
            if failed.reason != "MESSAGE_TOO_LARGE" or self._server_info is not None:
                raise
            self._learn_limits(timeout_s)
            if self._chunk_bytes >= len(content):
                raise
        return None

    def _put_stream(
        self,
        spec: file_service_pb2.FileSpec,
        source: Source,
        timeout_s: float,
        request_id: str | None,
        on_progress: OnProgress | None,
    ) -> file_service_pb2.PutFileResponse:
        attempts = Attempts(self._retry, random.random)
        pace = Pace(time.monotonic(), timeout_s, self._retry.attempt_timeout_s)
        self._learn_limits(timeout_s)
        total_s = None if source.size is None else timeout_s + source.size / TRANSFER_RATE_MIN
        failed: DesClientError | None = None
        while True:
            plan = upload.Upload(spec, source.size, with_checksums=self._verify)
            silent = False
            try:
                chunks = source.chunks(self._chunk_bytes)
                return self._send(plan, chunks, pace, total_s, request_id, on_progress)
            except UploadInterrupted as unreadable:
                raise unreadable from failed
            except calls.SilentError as error:
                failed, silent = error, True
            except DesClientError as error:
                failed = error
            self._wait_or_raise(attempts, failed, pace.left_s(time.monotonic(), silent=silent))

    def _send(
        self,
        plan: upload.Upload,
        chunks: Iterator[bytes],
        pace: Pace,
        total_s: float | None,
        request_id: str | None,
        on_progress: OnProgress | None,
    ) -> file_service_pb2.PutFileResponse:
        done = 0

        def asked() -> None:
            # gRPC asks for a message when the one before has left.
            nonlocal done
            if plan.built > done:
                watched.deadline_at = pace.moved(plan.built - done, time.monotonic())
                done = plan.built
                if on_progress is not None:
                    on_progress(Progress(done, plan.size))

        feed = _Feed(plan.messages(chunks), asked)
        watched = self._watchdog.add(feed.abort, pace.begin(time.monotonic()))
        try:
            call = self._channel().put_file.future(feed, timeout=total_s, metadata=self._metadata)
            feed.cancel = call.cancel
            if feed.failure is not None:
                call.cancel()
            try:
                answer = call.result()
            except (grpc.RpcError, grpc.FutureCancelledError) as failed:
                feed.stop()
                if feed.failure is not None:
                    raise feed.failure from None
                if watched.expired:
                    raise calls.silent("upload", done) from None
                if isinstance(failed, grpc.RpcError):
                    raise self._error(failed, request_id) from failed
                raise Cancelled("the upload was cancelled") from failed
            except BaseException:
                call.cancel()
                raise
            if feed.failure is not None:
                raise feed.failure
            return answer
        finally:
            self._watchdog.remove(watched)
            feed.stop()

    def get(
        self,
        name: str,
        *,
        offset: int = 0,
        limit: int | None = None,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> bytes:
        """Return a file's content, or a part of it.

        Args:
            name: which file.
            offset: first byte; negative counts from the end.
            limit: how many bytes at most; None for all up to the end.
            timeout_s: instead of the client's.
            on_progress: told after every message.

        Raises:
            FileMissing: no such file.
            RangeNotSatisfiable: `offset` lies outside the file.
            ChecksumMismatch: the bytes that arrived are not the file's.
        """
        calls.check_limit(limit)
        if limit == 0:
            return calls.nothing(self.stat(name, timeout_s=timeout_s), offset)
        pieces: list[bytes] = []
        self._receive(
            Download(name, offset=offset, limit=limit, verify=self._verify),
            pieces.append,
            timeout_s,
            on_progress,
        )
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def get_to(
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
        """Write a file's content to a path or into a binary file, in bounded memory.

        At a path, the content appears whole or not at all: it is written beside it and renamed, over
        whatever was there. A binary file is written from where it stands; a failure leaves what came
        before it.

        Args:
            name: which file.
            target: where to.
            offset: first byte; negative counts from the end.
            limit: how many bytes at most, not 0; None for all up to the end.
            fsync: for a path, return only when the disk has it.
            timeout_s: instead of the client's.
            on_progress: told after every message.
        """
        download = Download(name, offset=offset, limit=limit, verify=self._verify)
        with target_file.writing(target, fsync=fsync) as file:
            self._receive(download, lambda data: target_file.write_all(file, data), timeout_s, on_progress)
        return download.file

    def open(self, name: str, *, buffer_bytes: int = reader.BUFFER_BYTES) -> reader.FileReader:
        """Open a file for reading and seeking, as `open(path, "rb")` would.

        Costs one call now and one for every `buffer_bytes` read; a seek costs nothing.

        Raises:
            FileMissing: no such file.
        """
        info = self.stat(name)
        return reader.FileReader(
            reader.RawFileReader(info, lambda offset, limit: self.get(name, offset=offset, limit=limit)),
            buffer_bytes,
        )

    def _receive(
        self,
        download: Download,
        sink: Callable[[bytes], object],
        timeout_s: float | None,
        on_progress: OnProgress | None,
    ) -> None:
        now = time.monotonic()
        pace = Pace(now, calls.timeout(timeout_s, self._timeout_s), self._retry.attempt_timeout_s)
        attempts: Attempts | None = None
        while True:
            before = download.received
            request = download.request()
            call = self._channel().get_file(request, metadata=self._metadata)
            watched = self._watchdog.add(call.cancel, pace.begin(now))
            try:
                for response in call:
                    data = download.accept(response)
                    watched.deadline_at = pace.moved(len(data), time.monotonic())
                    if data:
                        sink(data)
                        if on_progress is not None:
                            on_progress(Progress(download.received, download.total_bytes))
                download.end()
                return
            except grpc.RpcError as failed:
                if download.complete:
                    return
                error: DesClientError = (
                    calls.silent("download", download.received)
                    if watched.expired
                    else self._error(failed, None)
                )
            except DesClientError as failed:
                call.cancel()
                error = failed
            except BaseException:
                call.cancel()
                raise
            finally:
                self._watchdog.remove(watched)
            if attempts is None:
                attempts = Attempts(self._retry, random.random)
            if download.received > before:
                attempts.progressed()
            now = time.monotonic()
            self._wait_or_raise(attempts, error, pace.left_s(now, silent=watched.expired))
            now = time.monotonic()

    def stat(self, name: str, *, timeout_s: float | None = None) -> FileInfo:
        """Return all that is known about a file, without its content.

        Raises:
            FileMissing: no such file.
        """
        return convert.file_info(
            self._call(
                lambda channel: channel.stat_file,
                calls.stat_request(name),
                calls.timeout(timeout_s, self._timeout_s),
            ).file
        )

    def exists(self, name: str, *, timeout_s: float | None = None) -> bool:
        """Return whether there is such a file. "I cannot tell" is an error, never False."""
        try:
            self.stat(name, timeout_s=timeout_s)
        except FileMissing:
            return False
        return True

    # --- names, shards, server ---------------------------------------------------------------

    def assign_names(
        self,
        count: int = 1,
        *,
        prefix: str = "",
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> list[AssignedName]:
        """Reserve names for files to be put later; the same `request_id` gives the same names again."""
        request_id = request_id or str(uuid.uuid4())
        return convert.assigned_names(
            self._call(
                lambda channel: channel.assign_name,
                calls.assign_request(count, prefix, request_id),
                calls.timeout(timeout_s, self._timeout_s),
                request_id,
            )
        )

    def shard_status(
        self, shard_ids: Iterable[int] | None = None, *, timeout_s: float | None = None
    ) -> list[ShardInfo]:
        """Return the state of some shards, or of all, by shard id."""
        pages = calls.ShardPages(shard_ids)
        while (request := pages.request()) is not None:
            pages.accept(
                self._call(
                    lambda channel: channel.shard_status,
                    request,
                    calls.timeout(timeout_s, self._timeout_s),
                )
            )
        return pages.shards

    def seal_shard(
        self, shard_id: int, *, request_id: str | None = None, timeout_s: float | None = None
    ) -> SealResult:
        """Seal what the shard holds open now; returns when its containers are recorded."""
        request_id = request_id or str(uuid.uuid4())
        return convert.seal_result(
            self._call(
                lambda channel: channel.seal_shard,
                calls.seal_request(shard_id, request_id),
                calls.timeout(timeout_s, self._timeout_s),
                request_id,
            )
        )

    def server_info(self, *, refresh: bool = False, timeout_s: float | None = None) -> ServerInfo:
        """Return the server's version, features and limits; asked once per client unless `refresh`."""
        if self._server_info is None or refresh:
            return self._ask_server_info(calls.timeout(timeout_s, self._timeout_s))
        return self._server_info

    def _ask_server_info(self, timeout_s: float, retry: RetryConfig | None = None) -> ServerInfo:
        answer = self._call(
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

    def _learn_limits(self, timeout_s: float) -> None:
        """Size messages by the server's limits; one that does not tell them soon gets the defaults."""
        if self._server_info is None:
            with contextlib.suppress(DesClientError):
                self._ask_server_info(min(timeout_s / 4, calls.LIMITS_TIMEOUT_S), NO_RETRY)

    def _channel(self) -> _Channel:
        if self._closing.is_set():
            raise ClientClosed("the client is closed")
        channels = self._channels
        return channels[next(self._turn) % len(channels)] if len(channels) > 1 else channels[0]

    def _call(
        self,
        method: "Callable[[_Channel], grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]]",
        request: RequestT,
        timeout_s: float,
        request_id: str | None = None,
        *,
        retry: RetryConfig | None = None,
    ) -> ResponseT:
        """Make a call of one request and one answer, as often as it takes."""
        ends_at = time.monotonic() + timeout_s
        retry = retry or self._retry
        attempt_s = retry.attempt_timeout_s
        attempts: Attempts | None = None
        while True:
            limit_s = timeout_s if attempt_s is None else min(timeout_s, attempt_s)
            try:
                return method(self._channel())(request, timeout=limit_s, metadata=self._metadata)
            except grpc.RpcError as failed:
                error = self._error(failed, request_id)
            if attempts is None:
                attempts = Attempts(retry, random.random)
            self._wait_or_raise(attempts, error, ends_at - time.monotonic())
            timeout_s = ends_at - time.monotonic()

    def _error(self, failed: grpc.RpcError, request_id: str | None) -> DesClientError:
        if self._closing.is_set():
            return ClientClosed("the client was closed while the call ran")
        error = from_call(failed, request_id=request_id)
        error.__cause__ = failed
        return error

    def _wait_or_raise(self, attempts: Attempts, error: DesClientError, remaining_s: float) -> None:
        wait_s = attempts.wait_s(error, remaining_s)
        if wait_s is None:
            raise error
        if self._closing.wait(wait_s):
            raise ClientClosed("the client was closed while the call ran") from error
