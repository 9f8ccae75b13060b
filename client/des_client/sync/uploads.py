"""Puts on the wire: one message, a stream, or a stream that goes on where it broke."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator

import grpc
from des_proto.v1 import (
    file_service_pb2,
)

from des_client import calls, upload
from des_client.errors import (
    Cancelled,
    DesClientError,
    FeatureDisabled,
    NotFound,
    UploadInterrupted,
)
from des_client.retry import NO_RETRY, TRANSFER_RATE_MIN, Attempts, Pace
from des_client.road import Road
from des_client.source import Data, MemorySource, Source, open_source
from des_client.sync.feed import Feed
from des_client.sync.transport import Transport
from des_client.types import Progress

OnProgress = Callable[[Progress], None]
"""Told how far a transfer is, after every message. What it raises ends the transfer."""


class Uploads(Transport):
    """How files are put."""

    def _put(
        self,
        spec: file_service_pb2.FileSpec,
        data: Data,
        size: int | None,
        timeout_s: float,
        request_id: str | None,
        on_progress: OnProgress | None,
    ) -> file_service_pb2.PutFileResponse:
        source = open_source(data, size)
        try:
            content = source.whole(self._chunk_bytes)
            if content is not None:
                calls.check_size(source, content)
                answer = self._put_whole(spec, content, timeout_s, request_id)
                if answer is not None:
                    if on_progress is not None:
                        on_progress(Progress(len(content), len(content)))
                    return answer
                source.close()
                source = MemorySource(content)
            return self._put_stream(spec, source, timeout_s, request_id, on_progress)
        finally:
            source.close()

    def _put_source(
        self, spec: file_service_pb2.FileSpec, source: Source, timeout_s: float, request_id: str | None
    ) -> file_service_pb2.PutFileResponse:
        """Put what was opened elsewhere, and close it."""
        try:
            return self._put_stream(spec, source, timeout_s, request_id, None)
        finally:
            source.close()

    def _put_whole(
        self, spec: file_service_pb2.FileSpec, content: bytes, timeout_s: float, request_id: str | None
    ) -> file_service_pb2.PutFileResponse | None:
        """Put in one message; None when the server takes only smaller ones."""
        request = upload.whole(spec, content, with_checksums=self._verify)
        try:
            return self._call(
                lambda channel: channel.put_whole, request, timeout_s, request_id, road=self._road(spec.name)
            )
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
        plan = upload.Upload(spec, source.size, with_checksums=self._verify)
        resumable = upload.is_resumable(self._server_info, source.size, rereadable=source.rereadable)
        persisted = 0
        road = self._road(spec.name)
        failed: DesClientError | None = None
        while True:
            silent = False
            start = 0
            try:
                if resumable:
                    start, finished = self._resume(plan, spec, timeout_s, road)
                    if finished is not None:
                        return finished
                    if start > persisted:
                        persisted = start
                        attempts.progressed()
                else:
                    plan.restart()
                chunks = source.chunks(self._chunk_bytes, start)
                return self._send(plan, chunks, pace, total_s, request_id, on_progress, road)
            except FeatureDisabled as error:
                if not resumable or plan.upload_id:
                    raise
                resumable, failed = False, error
                continue
            except UploadInterrupted as unreadable:
                raise unreadable from failed
            except calls.SilentError as error:
                failed, silent = error, True
                self._strayed(road, failed)
            except DesClientError as error:
                failed = error
            if plan.upload_id and isinstance(failed, NotFound) and failed.reason == "UPLOAD_NOT_FOUND":
                # The server has forgotten it: from the beginning.
                plan.upload_id = ""
                failed = calls.forgotten(failed)
            try:
                self._wait_or_raise(attempts, failed, pace.left_s(time.monotonic(), silent=silent))
            except DesClientError:
                if plan.upload_id and not failed.retryable:
                    self._give_up(plan.upload_id)
                raise

    def _resume(
        self, plan: upload.Upload, spec: file_service_pb2.FileSpec, timeout_s: float, road: Road | None
    ) -> tuple[int, file_service_pb2.PutFileResponse | None]:
        """Start a resumable upload, or ask how much of it the server has, or that it is finished."""
        if not plan.upload_id:
            if road is not None:
                road.node = ""
            begun = self._call(
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
        status = self._call(
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

    def _give_up(self, upload_id: str) -> None:
        """Tell the server that an upload will not go on; it forgets it by itself later, too."""
        with contextlib.suppress(DesClientError):
            self._call(
                lambda channel: channel.files.CancelUpload,
                file_service_pb2.CancelUploadRequest(upload_id=upload_id),
                calls.LIMITS_TIMEOUT_S,
                retry=NO_RETRY,
            )

    def _send(
        self,
        plan: upload.Upload,
        chunks: Iterator[bytes],
        pace: Pace,
        total_s: float | None,
        request_id: str | None,
        on_progress: OnProgress | None,
        road: Road | None,
    ) -> file_service_pb2.PutFileResponse:
        done = plan.built

        def asked() -> None:
            # gRPC asks for a message when the one before has left.
            nonlocal done
            if plan.built > done:
                watched.deadline_at = pace.moved(plan.built - done, time.monotonic())
                done = plan.built
                if on_progress is not None:
                    on_progress(Progress(done, plan.size))

        feed = Feed(plan.messages(chunks), asked)
        watched = self._watchdog.add(feed.abort, pace.begin(time.monotonic()))
        try:
            channel = self._channel(road)
            call = channel.files.PutFile.future(feed, timeout=total_s, metadata=self._headers(road))
            feed.cancel = call.cancel
            if feed.failure is not None or watched.expired:
                # Both may have happened before there was a call to cancel.
                call.cancel()
            try:
                answer = call.result()
                self._reached = True
            except (grpc.RpcError, grpc.FutureCancelledError) as failed:
                feed.stop()
                if feed.failure is not None:
                    raise feed.failure from None
                if watched.expired:
                    raise calls.silent("upload", done) from None
                if isinstance(failed, grpc.RpcError):
                    error = self._error(failed, request_id)
                    self._strayed(road, error, failed)
                    raise error from failed
                raise Cancelled("the upload was cancelled") from failed
            except BaseException:
                call.cancel()
                raise
            if feed.failure is not None:
                raise feed.failure
            if road is not None and self._roads is not None:
                file = None if plan.upload_id else answer.file
                self._roads.answered(road, call.trailing_metadata() or (), file)
            return answer
        finally:
            self._watchdog.remove(watched)
            feed.stop()
