"""Objects in Google Cloud Storage and in Azure, through obstore.

The rules are those of S3 (docs/object-stores.md): of two writers of a key one wins, and an answer that leaves
the outcome open is settled by looking for the write's own token in the object's metadata. A long object is
written in parts under a key of its own and then copied inside the store under the condition that its key is
free, since neither the parts nor their end can carry one.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from des.clock import Clock, SystemClock
from des.config import StoreSettings
from des.errors import AlreadyExistsError, DesError
from des.storage.checks import InvalidKeyError, check_etag, check_key, check_object_metadata, check_range
from des.storage.object_store import (
    Body,
    Capabilities,
    NoSuchObjectError,
    ObjectDamagedError,
    ObjectExistsError,
    ObjectInfo,
    ObjectStoreUnavailableError,
    ObjectUpload,
)
from des.storage.obstore_clients import StoreConnections
from des.storage.obstore_reads import OWN_KEYS, ObstoreReads, quoted
from des.storage.obstore_upload import STAGING, ObstoreUpload
from des.storage.s3_errors import of_obstore
from des.storage.uploads_under_way import UploadsUnderWay, is_stale
from des.storage.write_token import TOKEN, tagged, untagged

T = TypeVar("T")

LIST_PAGE: Final = 1000


class ObstoreBackend:
    """Objects of one bucket, or container, under one prefix. Safe for many tasks of one event loop."""

    def __init__(
        self,
        connections: StoreConnections,
        *,
        prefix: str = "",
        settings: StoreSettings,
        clock: Clock | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Name the place; nothing is asked of it yet.

        Args:
            connections: to an existing bucket.
            prefix: before every key, with a slash between; empty for the bucket's root.
            settings: how long calls may take, and how long parts are.
            clock: for the times of fresh objects.
            random_bytes: for tokens of writes.
        """
        from obstore.exceptions import BaseError  # noqa: PLC0415  optional dependency

        self.connections: Final = connections
        self.dialect: Final = connections.dialect
        self.prefix: Final = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.settings: Final = settings
        self.clock: Final = clock or SystemClock()
        self.reads: Final = ObstoreReads(connections.reads, timeout_s=settings.deadline_s)
        self.conditional = True
        """Whether the store was found to honour conditions on creates; else it is looked at first."""
        self._random_bytes = random_bytes
        # An absent object is a FileNotFoundError, missing credentials are a PermissionError.
        self._failures = (BaseError, OSError)
        self.under_way: Final = UploadsUnderWay()
        self._capabilities: Capabilities | None = None
        self._probing = asyncio.Lock()

    async def capabilities(self) -> Capabilities:
        """Return what the store honours; the first call finds out, with about 30 small requests.

        Raises:
            ObjectStoreUnavailableError: it did not answer.
            ObjectStoreRefusedError: wrong credentials, no permission, or no bucket.
        """
        from des.storage.obstore_probe import probe_obstore  # noqa: PLC0415  the probe works on the backend

        async with self._probing:
            if self._capabilities is None:
                self._capabilities = await probe_obstore(self)
            return self._capabilities

    # --- writing ----------------------------------------------------------------------------------

    async def create(self, key: str, body: Body, *, metadata: Mapping[str, str]) -> ObjectInfo:
        """Write `body` whole under a new key, or not at all: one request; parts and a copy where it is long.

        Raises:
            InvalidKeyError, InvalidObjectMetadataError: no store takes them.
            ObjectExistsError: the key is taken, by an object that this call did not make.
            ObjectDamagedError: the body ends before its own size.
            ObjectStoreUnavailableError: outcome unknown; `head` tells.
            ObjectStoreRefusedError, ObjectStoreFullError: nothing was written.
        """
        check_key(key)
        check_object_metadata(metadata)
        size = body.size()
        part = int(self.settings.part_bytes)
        upload = ObstoreUpload(self, key, dict(metadata))
        try:
            offset = 0
            while offset < size:
                data = await asyncio.to_thread(body.pread, min(part, size - offset), offset)
                if not data:
                    raise ObjectDamagedError(f"body of {key!r} ends at {offset}, its size is {size}")
                await upload.write(data)
                offset += len(data)
            return await upload.finish()
        except BaseException:
            await upload.abort()
            raise

    async def begin_upload(self, key: str, *, metadata: Mapping[str, str]) -> ObjectUpload:
        """Start writing a new object from a stream; the store hears of it when a first part is full."""
        check_key(key)
        check_object_metadata(metadata)
        return ObstoreUpload(self, key, dict(metadata))

    async def put(self, key: str, data: bytes, *, metadata: Mapping[str, str]) -> ObjectInfo:
        """Write a new object in one request, and settle what came of it. Same errors as `create`."""
        import obstore  # noqa: PLC0415  optional dependency

        token = self.new_token()
        try:
            if not self.conditional:
                await self.demand_free(key)
            made = await self.call(
                key,
                lambda: obstore.put_async(
                    self.connections.writes,
                    self.prefix + key,
                    data,
                    attributes=self.attributes(metadata, token),
                    mode="create",
                    use_multipart=False,
                ),
                sent_bytes=len(data),
            )
        except (AlreadyExistsError, ObjectStoreUnavailableError) as error:
            return await self.settle(key, size=len(data), token=token, error=error)
        return ObjectInfo(
            key=key,
            size=len(data),
            etag=quoted(made["e_tag"]),
            metadata=dict(metadata),
            modified_ms=self.clock.now_ms(),
        )

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
            info, metadata = await self._head(key)
        except DesError:
            raise error from None
        if (metadata.get(TOKEN), info.size) == (token, size):
            return info
        raise ObjectExistsError(f"object {key!r} exists", key=key) from error

    def new_token(self) -> str:
        """Return a token that no other write has."""
        return self._random_bytes(16).hex()

    def attributes(self, metadata: Mapping[str, str], token: str) -> dict[str, str]:
        """Return the metadata to store, under keys that the store takes."""
        return {self.dialect.encode(name): value for name, value in tagged(metadata, token).items()}

    async def call(self, key: str, request: Callable[[], Awaitable[T]], *, sent_bytes: int = 0) -> T:
        """Run a request of obstore to its deadline, which bytes on their way extend.

        Raises:
            ObjectStoreUnavailableError: no answer within the deadline; it may still take effect.
            DesError: the store's answer, translated.
        """
        deadline_s = self.settings.deadline_s + sent_bytes / self.settings.upload_bytes_per_s_min
        try:
            async with asyncio.timeout(deadline_s):
                return await request()
        except TimeoutError:
            raise ObjectStoreUnavailableError(
                f"no answer of the store about {key!r} within {deadline_s:.0f} s", key=key
            ) from None
        except self._failures as error:
            raise of_obstore(key, error) from error

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

    async def get_tail(self, key: str, size: int, *, etag: str | None = None) -> tuple[ObjectInfo, bytes]:
        """Return the last `size` bytes, or all where there are fewer, and what the store says.

        One request; two on Azure, which has to be asked for the length first.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectStoreUnavailableError: no answer; safe to repeat.
            ObjectStoreRefusedError: no permission, or no bucket.
        """
        check_key(key)
        if size and self.dialect.suffix_ranges:
            try:
                found, data = await self.reads.get_tail(self.prefix + key, size, etag)
            except ObjectDamagedError:
                # An object of no bytes has no last ones.
                info = await self.head(key)
                check_etag(info, etag)
                if info.size:
                    raise
                return info, b""
            return self._info(key, found)[0], data
        info = await self.head(key)
        check_etag(info, etag)
        return info, await self.get_range(key, max(0, info.size - size), info.size, etag=info.etag)

    async def head(self, key: str) -> ObjectInfo:
        """Return what the store knows about `key`.

        Raises:
            NoSuchObjectError: no such key.
            ObjectStoreUnavailableError: no answer; safe to repeat.
            ObjectStoreRefusedError: no permission, or no bucket.
        """
        check_key(key)
        return (await self._head(key))[0]

    async def _head(self, key: str) -> tuple[ObjectInfo, Mapping[str, str]]:
        """Return what the store says, and the metadata with the token of its write."""
        try:
            found = await self.call(
                key, lambda: self.connections.reads.get_async(self.prefix + key, options={"head": True})
            )
        except NoSuchObjectError:
            # An answer to HEAD has no body, so that a missing bucket looks like a missing object.
            await self.demand_bucket()
            raise
        return self._info(key, found)

    def _info(self, key: str, found: Any) -> tuple[ObjectInfo, Mapping[str, str]]:
        decode = self.dialect.decode
        metadata = {decode(name): value for name, value in found.attributes.items() if name[:1] in OWN_KEYS}
        return _described(key, found.meta, untagged(metadata)), metadata

    async def demand_bucket(self) -> None:
        """Raise unless the bucket is there and may be asked.

        Raises:
            ObjectStoreRefusedError: it is not, or may not.
            ObjectStoreUnavailableError: no answer.
        """
        pages = self._pages("", "")
        try:
            await anext(pages, None)
        finally:
            await pages.aclose()

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield objects whose key starts with `prefix`, in key order, after `start_after`; no metadata.

        One request per 1,000 objects of the folder in which `prefix` ends; Azure goes through all of it also
        where `start_after` is given. Objects under keys that no store takes are another's, or parts of
        uploads, and are passed over.

        Raises:
            ObjectStoreUnavailableError: no answer.
            ObjectStoreRefusedError: no permission, or no bucket.
        """
        async for page in self._pages(prefix, start_after):
            for found in page:
                key = found["path"].removeprefix(self.prefix)
                if key.startswith(prefix) and key > start_after and _is_ours(key):
                    yield _described(key, found, {})

    async def _pages(self, prefix: str, start_after: str) -> AsyncGenerator[Any, None]:
        """Yield pages of the folder in which `prefix` ends: obstore's prefixes are whole folders."""
        import obstore  # noqa: PLC0415  optional dependency

        folder = (self.prefix + prefix).rpartition("/")[0]
        # What sorts before everything that starts with `prefix`, if only just, and is not yielded.
        after = max(self.prefix + start_after if start_after else "", (self.prefix + prefix)[:-1])
        stream = obstore.list(
            self.connections.reads, folder or None, offset=after or None, chunk_size=LIST_PAGE
        )
        while page := await self.call(prefix, lambda: _next_page(stream)):
            yield page

    # --- removing ---------------------------------------------------------------------------------

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        """Remove an object; an absent one is fine. With `etag` it is looked at first: two requests.

        obstore's deletes carry no condition. Keys are never used twice, so that between the look and the
        delete an object can only go, not change.

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
        await self.remove(self.prefix + key)

    async def remove(self, path: str) -> None:
        """Remove what lies under a whole path; nothing there is fine. Same errors as `delete`."""
        import obstore  # noqa: PLC0415  optional dependency

        try:
            await self.call(path, lambda: obstore.delete_async(self.connections.writes, path))
        except NoSuchObjectError:
            return

    async def abort_stale_uploads(self, prefix: str, *, begun_before_ms: int) -> int:
        """Remove what uploads under `prefix` left that were written whole and never copied; return how many.

        Nothing that this process has under way, and nothing of a store that keeps no dates.

        Parts that were never put together are seen by nobody: Azure drops them after a week, Google by a
        lifecycle rule of the bucket (docs/object-stores.md).

        Raises:
            ObjectStoreUnavailableError, ObjectStoreRefusedError: what was not removed stays.
        """
        removed = 0
        async for page in self._pages(f"{STAGING}{prefix}", ""):
            for found in page:
                place = found["path"].removeprefix(self.prefix)
                key = place.removeprefix(STAGING).rpartition("/")[0]
                if (
                    place.startswith(f"{STAGING}{prefix}")
                    and key not in self.under_way
                    and is_stale(
                        int(found["last_modified"].timestamp() * 1000), begun_before_ms=begun_before_ms
                    )
                ):
                    await self.remove(found["path"])
                    removed += 1
        return removed

    async def close(self) -> None:
        """Let go of the connections; obstore gives them back when nobody uses them."""


async def _next_page(stream: Any) -> Any:
    """Return the next page of a listing, and None after the last."""
    return await anext(stream, None)


def _described(key: str, meta: Mapping[str, Any], metadata: Mapping[str, str]) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=meta["size"],
        # Azure's listings give it without quotes.
        etag=quoted(meta["e_tag"]),
        metadata=metadata,
        # HEAD gives whole seconds, a listing may give more.
        modified_ms=int(meta["last_modified"].timestamp()) * 1000,
    )


def _is_ours(key: str) -> bool:
    try:
        check_key(key)
    except InvalidKeyError:
        return False
    return True
