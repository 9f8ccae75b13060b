"""Gets on the wire, and where their bytes go."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import BinaryIO, cast

from des_proto.v1 import (
    file_service_pb2,
)
from grpc import aio

from des_client import calls, target_file
from des_client.aio.uploads import AsyncUploads, OnProgress
from des_client.download import Download
from des_client.errors import (
    DesClientError,
)
from des_client.reader import AsyncFileReader
from des_client.retry import Attempts, Pace
from des_client.types import FileInfo, Progress


class AsyncDownloads(AsyncUploads):
    """How files are read."""

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
        road = self._road(download.name, is_read=True)
        while True:
            before = download.received
            request = download.request()
            channel = self._channel(road)
            call = channel.files.GetFile(request, metadata=self._headers(road))
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
                self._reached = True
                if road is not None and self._roads is not None:
                    self._roads.answered(road, await call.trailing_metadata(), download.described)
                return
            except aio.AioRpcError as failed:
                if download.complete:
                    return
                error = self._error(failed, None)
                self._strayed(road, error, failed)
            except TimeoutError:
                call.cancel()
                if not scope.expired():
                    raise
                error = calls.silent("download", download.received)
                self._strayed(road, error)
            except DesClientError as failed:
                call.cancel()
                error = failed
                self._strayed(road, error)
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
                self._reached = True
                attempts.progressed()
            await self._wait_or_raise(attempts, error, pace.left_s(loop.time(), silent=scope.expired()))

    def _writer(self, target: str | os.PathLike[str] | BinaryIO) -> "_Writer":
        return _Writer(target)

    def _reader(
        self, info: FileInfo, fetch: Callable[[int, int], Awaitable[bytes]], buffer_bytes: int
    ) -> AsyncFileReader:
        return AsyncFileReader(info, fetch, buffer_bytes)


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
