"""An object store that is written to only after its identity was checked (`des.storage.identity`).

The check is made at the start of a node. Where the store does not answer then, the node starts all the same:
what its log holds is served, and writes to the log go on. The check is owed until the first write.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from des.storage.object_store import Body, Capabilities, ObjectInfo, ObjectStore, ObjectUpload


class IdentityGate:
    """The store it is given; whatever makes or removes an object waits for `check`.

    Reads pass: they name an etag, and what another store answers is never taken for ours.
    """

    def __init__(self, store: ObjectStore, check: Callable[[ObjectStore], Awaitable[None]]) -> None:
        """Put `check` before the writes; it raises as long as the store is not known to be ours."""
        self._store = store
        self._check = check
        self._passed = False
        self._checking = asyncio.Lock()

    async def pass_gate(self) -> None:
        """Check whose objects these are, unless that was done.

        Raises:
            WrongStoreError: they are another's.
            UnavailableError: not known now; the next write asks again.
        """
        if self._passed:
            return
        async with self._checking:
            if not self._passed:
                await self._check(self._store)
                self._passed = True

    async def capabilities(self) -> Capabilities:
        """See `ObjectStore.capabilities`."""
        return await self._store.capabilities()

    async def create(self, key: str, body: Body, *, metadata: Mapping[str, str]) -> ObjectInfo:
        """See `ObjectStore.create`."""
        await self.pass_gate()
        return await self._store.create(key, body, metadata=metadata)

    async def begin_upload(self, key: str, *, metadata: Mapping[str, str]) -> ObjectUpload:
        """See `ObjectStore.begin_upload`."""
        await self.pass_gate()
        return await self._store.begin_upload(key, metadata=metadata)

    async def get_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """See `ObjectStore.get_range`."""
        return await self._store.get_range(key, start, stop, etag=etag)

    async def get_tail(self, key: str, size: int, *, etag: str | None = None) -> tuple[ObjectInfo, bytes]:
        """See `ObjectStore.get_tail`."""
        return await self._store.get_tail(key, size, etag=etag)

    async def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore.head`."""
        return await self._store.head(key)

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """See `ObjectStore.list`."""
        return self._store.list(prefix, start_after=start_after)

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        """See `ObjectStore.delete`."""
        await self.pass_gate()
        await self._store.delete(key, etag=etag)

    async def abort_stale_uploads(self, prefix: str, *, begun_before_ms: int) -> int:
        """See `ObjectStore.abort_stale_uploads`."""
        await self.pass_gate()
        return await self._store.abort_stale_uploads(prefix, begun_before_ms=begun_before_ms)

    async def close(self) -> None:
        """See `ObjectStore.close`."""
        await self._store.close()
