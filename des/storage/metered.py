"""An object store with every call counted: how many, how they ended, how long they took, how many bytes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, cast

from des.monitoring.object_store_metrics import ObjectStoreMetrics
from des.monitoring.tracing import span
from des.storage.object_store import (
    Body,
    Capabilities,
    CopyingUpload,
    NoSuchObjectError,
    ObjectChangedError,
    ObjectDamagedError,
    ObjectExistsError,
    ObjectInfo,
    ObjectStore,
    ObjectStoreFullError,
    ObjectStoreRefusedError,
    ObjectStoreUnavailableError,
    ObjectUpload,
)

OUTCOMES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (NoSuchObjectError, "missing"),
    (ObjectExistsError, "exists"),
    (ObjectChangedError, "changed"),
    (ObjectDamagedError, "damaged"),
    (ObjectStoreFullError, "full"),
    (ObjectStoreRefusedError, "refused"),
    (ObjectStoreUnavailableError, "unavailable"),
    (asyncio.CancelledError, "cancelled"),
)
"""What a call that raised is counted as, first match; anything else is "error"."""


def outcome_of(error: BaseException) -> str:
    """Return the label of a failed call.

    >>> outcome_of(NoSuchObjectError("x")), outcome_of(ValueError("x"))
    ('missing', 'error')
    """
    return next((name for kind, name in OUTCOMES if isinstance(error, kind)), "error")


class MeteredObjectStore:
    """The store it is given, measured. A listing is one call, however long, without the reader's own time."""

    def __init__(
        self,
        store: ObjectStore,
        metrics: ObjectStoreMetrics,
        *,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._monotonic = monotonic

    async def capabilities(self) -> Capabilities:
        """See `ObjectStore.capabilities`."""
        return await self._store.capabilities()

    async def create(self, key: str, body: Body, *, metadata: Mapping[str, str]) -> ObjectInfo:
        """See `ObjectStore.create`."""
        with self.measured("create"):
            info = await self._store.create(key, body, metadata=metadata)
        self._metrics.moved("sent", info.size)
        return info

    async def begin_upload(self, key: str, *, metadata: Mapping[str, str]) -> ObjectUpload:
        """See `ObjectStore.begin_upload`."""
        with self.measured("begin_upload"):
            upload = await self._store.begin_upload(key, metadata=metadata)
        return _MeteredUpload(self, self._metrics, upload)

    async def get_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """See `ObjectStore.get_range`."""
        if start == stop:
            return await self._store.get_range(key, start, stop, etag=etag)
        with self.measured("get_range"):
            data = await self._store.get_range(key, start, stop, etag=etag)
        self._metrics.moved("received", len(data))
        return data

    async def get_tail(self, key: str, size: int, *, etag: str | None = None) -> tuple[ObjectInfo, bytes]:
        """See `ObjectStore.get_tail`."""
        with self.measured("get_tail"):
            info, data = await self._store.get_tail(key, size, etag=etag)
        self._metrics.moved("received", len(data))
        return info, data

    async def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore.head`."""
        with self.measured("head"):
            return await self._store.head(key)

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """See `ObjectStore.list`."""
        listing = self._store.list(prefix, start_after=start_after)
        spent_s = 0.0
        outcome = "ok"
        try:
            while True:
                started = self._monotonic()
                try:
                    info = await anext(listing)
                except StopAsyncIteration:
                    return
                finally:
                    spent_s += self._monotonic() - started
                yield info
        except GeneratorExit:
            raise
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            self._metrics.called("list", outcome, spent_s)

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        """See `ObjectStore.delete`."""
        with self.measured("delete"):
            await self._store.delete(key, etag=etag)

    async def abort_stale_uploads(self, prefix: str, *, begun_before_ms: int) -> int:
        """See `ObjectStore.abort_stale_uploads`."""
        with self.measured("abort_stale_uploads"):
            return await self._store.abort_stale_uploads(prefix, begun_before_ms=begun_before_ms)

    async def close(self) -> None:
        """See `ObjectStore.close`."""
        await self._store.close()

    @contextmanager
    def measured(self, operation: str) -> Iterator[None]:
        """Count what runs inside as one call."""
        started = self._monotonic()
        outcome = "ok"
        try:
            with span(f"object_store.{operation}"):
                yield
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            self._metrics.called(operation, outcome, self._monotonic() - started)


class _MeteredUpload:
    def __init__(self, store: MeteredObjectStore, metrics: ObjectStoreMetrics, upload: ObjectUpload) -> None:
        self._store = store
        self._metrics = metrics
        self._upload = upload

    async def write(self, data: bytes) -> None:
        with self._store.measured("write_part"):
            await self._upload.write(data)
        self._metrics.moved("sent", len(data))

    async def copy_from(self, key: str, start: int, stop: int, *, etag: str) -> None:
        with self._store.measured("copy"):
            await cast("CopyingUpload", self._upload).copy_from(key, start, stop, etag=etag)

    async def finish(self) -> ObjectInfo:
        with self._store.measured("finish_upload"):
            return await self._upload.finish()

    async def abort(self) -> None:
        with self._store.measured("abort_upload"):
            await self._upload.abort()
