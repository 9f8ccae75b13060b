"""What the backends of all buckets have in common: creates that never overwrite, outcomes settled by looking.

Of two writers of a key one wins. An answer that leaves the outcome open is settled by looking: each write
carries a random token in the object's metadata, so that a refusal on a retry and a timeout after the effect
end as what they were. Where the store ignores conditions, unique keys and the catalog's fence carry the load
(docs/object-stores.md).
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from des.clock import Clock
from des.config import StoreSettings
from des.errors import DesError
from des.storage.checks import check_etag, check_key, check_object_metadata, check_range
from des.storage.object_store import Body, Capabilities, NoSuchObjectError, ObjectExistsError, ObjectInfo
from des.storage.obstore_reads import ObstoreReads
from des.storage.parted_upload import PartedUpload
from des.storage.uploads_under_way import UploadsUnderWay

AnyUpload = TypeVar("AnyUpload", bound=PartedUpload)


class BucketStore(ABC, Generic[AnyUpload]):
    """Objects of one bucket under one prefix. Safe for many tasks of one event loop."""

    def __init__(
        self,
        *,
        prefix: str,
        settings: StoreSettings,
        reads: ObstoreReads,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """Name the place; nothing is asked of it yet. Ranges are read through `reads`."""
        self.prefix: Final = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.settings: Final = settings
        self.reads: Final = reads
        self.clock: Final = clock
        self.under_way: Final = UploadsUnderWay()
        self.conditional = True
        """Whether writes carry conditions; the probe takes them off where the store honours none."""
        self._random_bytes = random_bytes
        self._capabilities: Capabilities | None = None
        self._probing = asyncio.Lock()

    async def capabilities(self) -> Capabilities:
        """Return what the store honours; the first call finds out, with about 30 small requests.

        Raises:
            ObjectStoreUnavailableError: it did not answer.
            ObjectStoreRefusedError: wrong credentials, no permission, or no bucket.
        """
        async with self._probing:
            if self._capabilities is None:
                self._capabilities = await self._probe()
            return self._capabilities

    # --- writing ----------------------------------------------------------------------------------

    async def create(self, key: str, body: Body, *, metadata: Mapping[str, str]) -> ObjectInfo:
        """Write `body` whole under a new key, or not at all: one request, or parts where it is long.

        Raises:
            InvalidKeyError, InvalidObjectMetadataError: no store takes them.
            ObjectExistsError: the key is taken, by an object that this call did not make.
            ObjectDamagedError: the body ends before its own size.
            ObjectStoreUnavailableError: outcome unknown; `head` tells.
            ObjectStoreRefusedError, ObjectStoreFullError: nothing was written.
        """
        check_key(key)
        check_object_metadata(metadata)
        if body.size() <= self.settings.part_bytes:
            return await self._create_short(key, body, metadata)
        upload = self._new_upload(key, metadata)
        try:
            await upload.write_body(body)
            return await upload.finish()
        except BaseException:
            await upload.abort()
            raise

    async def begin_upload(self, key: str, *, metadata: Mapping[str, str]) -> AnyUpload:
        """Start writing a new object from a stream; the store hears of it when a first part is full."""
        check_key(key)
        check_object_metadata(metadata)
        return self._new_upload(key, metadata)

    async def demand_free(self, key: str) -> None:
        """Raise `ObjectExistsError` unless no object has the key now."""
        try:
            await self.head(key)
        except NoSuchObjectError:
            return
        raise ObjectExistsError(f"object {key!r} exists", key=key)

    async def settle(self, key: str, *, size: int, token: str, error: DesError) -> ObjectInfo:
        """Look what came of a write whose answer left it open.

        Raises:
            ObjectExistsError: another's object is there.
            DesError: `error`, when nothing is there: not final, the write may still land.
        """
        try:
            for _ in range(2):
                info, found = await self._looked_at(key)
                if (found, info.size) == (token, size):
                    return info
                # An answer that was cut off in its head may lack the token: another's object is one twice.
        except DesError:
            raise error from None
        raise ObjectExistsError(f"object {key!r} exists", key=key) from error

    def new_token(self) -> str:
        """Return a token that no other write has."""
        return self._random_bytes(16).hex()

    # --- reading ----------------------------------------------------------------------------------

    async def get_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """Return exactly the bytes `[start, stop)`. An empty range costs no request.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectDamagedError: the object ends before `stop`.
            ObjectStoreUnavailableError: no answer; safe to repeat.
            ObjectStoreRefusedError: no permission, or no bucket.
        """
        check_range(start, stop)
        if start == stop:
            return b""
        check_key(key)
        return await self.reads.get_range(self.prefix + key, start, stop, etag)

    async def head(self, key: str) -> ObjectInfo:
        """Return what the store knows about `key`.

        Raises:
            NoSuchObjectError: no such key.
            ObjectStoreUnavailableError: no answer; safe to repeat.
            ObjectStoreRefusedError: no permission, or no bucket.
        """
        check_key(key)
        return (await self._looked_at(key))[0]

    async def _looked_at(self, key: str) -> tuple[ObjectInfo, str | None]:
        try:
            return await self._look(key)
        except NoSuchObjectError:
            # An answer to HEAD has no body, so that a missing bucket looks like a missing object.
            await self.demand_bucket()
            raise

    # --- removing ---------------------------------------------------------------------------------

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        """Remove an object; an absent one is fine. With `etag` it is looked at first: two requests.

        Not every store honours a condition on a delete, and a wrong one cannot be taken back. Keys are never
        used twice, so that between the look and the delete an object can only go, not change.

        Raises:
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectStoreUnavailableError: outcome unknown; safe to repeat.
            ObjectStoreRefusedError: no permission, or no bucket.
        """
        check_key(key)
        if etag is not None:
            try:
                info = await self.head(key)
            except NoSuchObjectError:
                return
            check_etag(info, etag)
        try:
            await self._remove(key, etag)
        except NoSuchObjectError:
            return

    # --- what the stores differ in ----------------------------------------------------------------

    @abstractmethod
    async def demand_bucket(self) -> None:
        """Raise unless the bucket is there and may be asked.

        Raises:
            ObjectStoreRefusedError: it is not, or may not.
            ObjectStoreUnavailableError: no answer.
        """

    @abstractmethod
    async def get_tail(self, key: str, size: int, *, etag: str | None = None) -> tuple[ObjectInfo, bytes]:
        """Return the last `size` bytes, or all where there are fewer, and what the store says.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectStoreUnavailableError: no answer; safe to repeat.
            ObjectStoreRefusedError: no permission, or no bucket.
        """

    @abstractmethod
    async def _probe(self) -> Capabilities:
        """Find out what the store honours."""

    @abstractmethod
    async def _create_short(self, key: str, body: Body, metadata: Mapping[str, str]) -> ObjectInfo:
        """Write a body of at most one part in one request, and settle what came of it."""

    @abstractmethod
    def _new_upload(self, key: str, metadata: Mapping[str, str]) -> AnyUpload:
        """Return an upload of which the store has not heard."""

    @abstractmethod
    async def _look(self, key: str) -> tuple[ObjectInfo, str | None]:
        """Return what a HEAD says of an object, and the token of the write that made it."""

    @abstractmethod
    async def _remove(self, key: str, etag: str | None) -> None:
        """Remove an object, that of `etag` where the store takes conditions."""
