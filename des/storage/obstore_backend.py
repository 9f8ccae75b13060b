"""Objects in Google Cloud Storage and in Azure, through obstore.

The rules are those of every bucket (`des.storage.bucket`). A long object is written in parts under a key of
its own and then copied inside the store under the condition that its key is free, since neither the parts nor
their end can carry one.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from des.clock import Clock, SystemClock
from des.config import StoreSettings
from des.errors import AlreadyExistsError
from des.storage.bucket import BucketStore
from des.storage.checks import InvalidKeyError, check_etag, check_key
from des.storage.object_store import (
    Body,
    Capabilities,
    NoSuchObjectError,
    ObjectDamagedError,
    ObjectInfo,
    ObjectStoreUnavailableError,
)
from des.storage.obstore_clients import StoreConnections
from des.storage.obstore_reads import OWN_KEYS, ObstoreReads, listed_info, quoted
from des.storage.obstore_upload import STAGING, ObstoreUpload
from des.storage.s3_errors import of_obstore
from des.storage.uploads_under_way import is_stale
from des.storage.write_token import TOKEN, tagged, untagged

T = TypeVar("T")

LIST_PAGE: Final = 1000


class ObstoreBackend(BucketStore[ObstoreUpload]):
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
        super().__init__(
            prefix=prefix,
            settings=settings,
            reads=ObstoreReads(connections.reads, timeout_s=settings.deadline_s),
            clock=clock or SystemClock(),
            random_bytes=random_bytes,
        )
        # An absent object is a FileNotFoundError, missing credentials are a PermissionError.
        self._failures = (BaseError, OSError)

    async def _probe(self) -> Capabilities:
        from des.storage.obstore_probe import ObstoreProbe  # noqa: PLC0415  the probe works on the backend

        return await ObstoreProbe(self).run()

    # --- writing ----------------------------------------------------------------------------------

    async def _create_short(self, key: str, body: Body, metadata: Mapping[str, str]) -> ObjectInfo:
        upload = self._new_upload(key, metadata)
        await upload.write_body(body)
        return await upload.finish()

    def _new_upload(self, key: str, metadata: Mapping[str, str]) -> ObstoreUpload:
        return ObstoreUpload(self, key, metadata)

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

    async def _look(self, key: str) -> tuple[ObjectInfo, str | None]:
        found = await self.call(
            key, lambda: self.connections.reads.get_async(self.prefix + key, options={"head": True})
        )
        return self._info(key, found)

    def _info(self, key: str, found: Any) -> tuple[ObjectInfo, str | None]:
        """Return what an answer says of an object, and the token of the write that made it."""
        decode = self.dialect.decode
        metadata = {decode(name): value for name, value in found.attributes.items() if name[:1] in OWN_KEYS}
        return listed_info(key, found.meta, untagged(metadata)), metadata.get(TOKEN)

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
                    yield listed_info(key, found, {})

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

    async def _remove(self, key: str, etag: str | None) -> None:  # noqa: ARG002  obstore's deletes carry none
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


def _is_ours(key: str) -> bool:
    try:
        check_key(key)
    except InvalidKeyError:
        return False
    return True
