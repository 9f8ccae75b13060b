"""Gets on the wire, and where their bytes go."""

import os
import random
import time
from collections.abc import Callable
from typing import BinaryIO, cast

import grpc

from des_client import calls, target_file
from des_client.download import Download
from des_client.errors import (
    DesClientError,
)
from des_client.reader import FileReader, RawFileReader
from des_client.retry import Attempts, Pace
from des_client.sync.uploads import OnProgress, Uploads
from des_client.types import FileInfo, Progress


class Downloads(Uploads):
    """How files are read."""

    def _receive(
        self,
        download: Download,
        keep: Callable[[bytes], object] | None,
        write: Callable[[bytes], object] | None,
        timeout_s: float | None,
        on_progress: OnProgress | None,
    ) -> None:
        sink = keep or write
        now = time.monotonic()
        pace = Pace(now, calls.timeout(timeout_s, self._timeout_s), self._retry.attempt_timeout_s)
        attempts: Attempts | None = None
        road = self._road(download.name, is_read=True)
        while True:
            before = download.received
            request = download.request()
            channel = self._channel(road)
            call = channel.files.GetFile(request, metadata=self._headers(road))
            watched = self._watchdog.add(call.cancel, pace.begin(now))
            try:
                for response in call:
                    data = download.accept(response)
                    watched.deadline_at = pace.moved(len(data), time.monotonic())
                    if data:
                        if sink is not None:
                            sink(data)
                        if on_progress is not None:
                            on_progress(Progress(download.received, download.total_bytes))
                download.end()
                self._reached = True
                if road is not None and self._roads is not None:
                    self._roads.answered(road, call.trailing_metadata() or (), download.described)
                return
            except grpc.RpcError as failed:
                if download.complete:
                    return
                error: DesClientError = (
                    calls.silent("download", download.received)
                    if watched.expired
                    else self._error(failed, None)
                )
                self._strayed(road, error, None if watched.expired else failed)
            except DesClientError as failed:
                call.cancel()
                error = failed
                self._strayed(road, error)
            except BaseException:
                call.cancel()
                raise
            finally:
                self._watchdog.remove(watched)
            if attempts is None:
                attempts = Attempts(self._retry, random.random)
            if download.received > before:
                self._reached = True
                attempts.progressed()
            now = time.monotonic()
            self._wait_or_raise(attempts, error, pace.left_s(now, silent=watched.expired))
            now = time.monotonic()

    def _writer(self, target: str | os.PathLike[str] | BinaryIO) -> "_Writer":
        return _Writer(target)

    def _reader(self, info: FileInfo, fetch: Callable[[int, int], bytes], buffer_bytes: int) -> FileReader:
        return FileReader(RawFileReader(info, fetch), buffer_bytes)


class _Writer:
    """A download's target."""

    def __init__(self, target: str | os.PathLike[str] | BinaryIO) -> None:
        self._pending = target_file.TargetFile(target) if isinstance(target, str | os.PathLike) else None
        self._file = self._pending.file if self._pending is not None else cast("BinaryIO", target)

    def write(self, data: bytes) -> None:
        target_file.write_all(self._file, data)

    def commit(self, *, fsync: bool) -> None:
        if self._pending is not None:
            self._pending.commit(fsync=fsync)

    def discard(self) -> None:
        if self._pending is not None:
            self._pending.discard()
