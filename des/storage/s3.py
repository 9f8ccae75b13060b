"""Objects in S3 and its like: boto3 writes and administers, obstore reads ranges.

Of two writers of a key one wins (`If-None-Match: *`), and an answer that leaves the outcome open is settled
by looking: each write carries a random token in the object's metadata, so that a 412 on a retry, a timeout
after the effect and a 200 with an error in it end as what they were. Where the store ignores conditions,
unique keys and the catalog's fence carry the load (docs/object-stores.md).
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from des.clock import Clock, SystemClock
from des.config import S3Settings
from des.errors import AlreadyExistsError, DesError
from des.storage.checks import InvalidKeyError, check_etag, check_key, check_object_metadata, check_range
from des.storage.object_store import (
    Body,
    Capabilities,
    CopyingUpload,
    NoSuchObjectError,
    ObjectExistsError,
    ObjectInfo,
    ObjectStoreUnavailableError,
)
from des.storage.obstore_reads import tail_or_nothing
from des.storage.s3_body import BodyFile, checksum_of_body
from des.storage.s3_client import S3Client
from des.storage.s3_errors import NoSuchUploadError, WriteConflictError, taken
from des.storage.s3_upload import S3Upload
from des.storage.uploads_under_way import UploadsUnderWay, is_stale
from des.storage.write_token import TOKEN, tagged, untagged

CONFLICTS_MAX: Final = 5
"""How often a create is repeated because another one of the same key was under way."""
CONFLICT_WAIT_S: Final = 0.2


class S3StorageBackend:
    """Objects of one bucket under one prefix. Safe for many tasks of one event loop."""

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        settings: S3Settings | None = None,
        clock: Clock | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Name the place; nothing is asked of it yet.

        Args:
            bucket: an existing one.
            prefix: before every key, with a slash between; empty for the bucket's root.
            settings: how to reach it.
            clock: for the waits between attempts.
            random_bytes: for tokens of writes.
        """
        self.s3: Final = S3Client(bucket, settings or S3Settings())
        self.prefix: Final = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.clock: Final = clock or SystemClock()
        self.random_bytes: Final = random_bytes
        self.sending: Final = asyncio.Semaphore(self.s3.settings.parts_at_once)
        """Parts on their way, of all uploads together."""
        self.under_way: Final = UploadsUnderWay()
        self.conditional = True
        """Whether writes carry conditions; the probe takes them off where the store refuses them."""
        self._capabilities: Capabilities | None = None
        self._probing = asyncio.Lock()

    async def capabilities(self) -> Capabilities:
        """Return what the store honours; the first call finds out, with about 30 small requests.

        Raises:
            ObjectStoreUnavailableError: it did not answer.
            ObjectStoreRefusedError: wrong credentials, no permission, or no bucket.
        """
        from des.storage.s3_probe import probe_s3  # noqa: PLC0415  the probe works on the backend

        async with self._probing:
            if self._capabilities is None:
                self._capabilities = await probe_s3(self)
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
        size = body.size()
        if size > self.s3.settings.part_bytes:
            return await self._create_in_parts(key, body, metadata)
        checksum = await asyncio.to_thread(checksum_of_body, body, key, self.s3.settings.checksum)
        return await self.put(key, BodyFile(body), size=size, metadata=metadata, checksum=checksum)

    async def begin_upload(self, key: str, *, metadata: Mapping[str, str]) -> CopyingUpload:
        """Start writing a new object from a stream; the store hears of it when a first part is full."""
        check_key(key)
        check_object_metadata(metadata)
        return S3Upload(self, key, dict(metadata))

    async def put(
        self, key: str, data: BodyFile | bytes, *, size: int, metadata: Mapping[str, str], checksum: Any
    ) -> ObjectInfo:
        """Write a new object in one request, and settle what came of it. Same errors as `create`."""
        token = self.new_token()
        for conflicts in range(CONFLICTS_MAX):
            try:
                answer = await self._put(
                    key, data, size=size, metadata=metadata, checksum=checksum, token=token
                )
            except WriteConflictError as error:
                if conflicts + 1 == CONFLICTS_MAX:
                    return await self.settle(key, size=size, token=token, error=error)
                await self.clock.sleep(CONFLICT_WAIT_S)
            except (AlreadyExistsError, ObjectStoreUnavailableError) as error:
                return await self.settle(key, size=size, token=token, error=error)
            else:
                return made_info(key, size, metadata, answer)
        raise AssertionError("unreachable")

    async def _put(
        self,
        key: str,
        data: BodyFile | bytes,
        *,
        size: int,
        metadata: Mapping[str, str],
        checksum: Any,
        token: str,
    ) -> Mapping[str, Any]:
        if not self.conditional:
            await self.demand_free(key)
        try:
            return await self.s3.call(
                key,
                self.s3.client.put_object,
                sent_bytes=size,
                needs=("ETag",),
                Bucket=self.s3.bucket,
                Key=self.prefix + key,
                Body=data,
                Metadata=tagged(metadata, token),
                **self.free_condition(),
                **checksum,
            )
        except DesError as error:
            raise taken(error, key) from error

    async def _create_in_parts(self, key: str, body: Body, metadata: Mapping[str, str]) -> ObjectInfo:
        upload = S3Upload(self, key, dict(metadata))
        try:
            await upload.write_body(body)
            return await upload.finish()
        except BaseException:
            await upload.abort()
            raise

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
                answer = await self._head(key)
                if (answer.get("Metadata", {}).get(TOKEN), answer["ContentLength"]) == (token, size):
                    return head_info(key, answer)
                # An answer that was cut off in its head may lack the token: another's object is one twice.
        except DesError:
            raise error from None
        raise ObjectExistsError(f"object {key!r} exists", key=key) from error

    def new_token(self) -> str:
        """Return a token that no other write has."""
        return self.random_bytes(16).hex()

    def free_condition(self) -> Mapping[str, Any]:
        """Return the condition that the key is free, where the store takes conditions."""
        return {"IfNoneMatch": "*"} if self.conditional else {}

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
        return await self.s3.reads.get_range(self.prefix + key, start, stop, etag)

    async def get_tail(self, key: str, size: int, *, etag: str | None = None) -> tuple[ObjectInfo, bytes]:
        """Return the last `size` bytes, or all where there are fewer, and what the store says.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectStoreUnavailableError: no answer; safe to repeat.
            ObjectStoreRefusedError: no permission, or no bucket.
        """
        check_key(key)
        return await tail_or_nothing(
            self.s3.reads, self.prefix + key, key=key, size=size, etag=etag, head=self.head
        )

    async def head(self, key: str) -> ObjectInfo:
        """Return what the store knows about `key`.

        Raises:
            NoSuchObjectError: no such key.
            ObjectStoreUnavailableError: no answer; safe to repeat.
            ObjectStoreRefusedError: no permission, or no bucket.
        """
        check_key(key)
        return head_info(key, await self._head(key))

    async def _head(self, key: str) -> Mapping[str, Any]:
        try:
            return await self.s3.call(
                key,
                self.s3.client.head_object,
                needs=("ContentLength", "ETag", "LastModified"),
                Bucket=self.s3.bucket,
                Key=self.prefix + key,
            )
        except NoSuchObjectError:
            # An answer to HEAD has no body, so that a missing bucket looks like a missing object.
            await self.demand_bucket()
            raise

    async def demand_bucket(self) -> None:
        """Raise unless the bucket is there and may be asked.

        Raises:
            ObjectStoreRefusedError: it is not, or may not.
            ObjectStoreUnavailableError: no answer.
        """
        await self.s3.call(
            "", self.s3.client.list_objects_v2, Bucket=self.s3.bucket, Prefix=self.prefix, MaxKeys=1
        )

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield objects whose key starts with `prefix`, in key order, after `start_after`; no metadata.

        One request per 1,000. Objects under keys that no store takes are another's and are passed over.

        Raises:
            ObjectStoreUnavailableError: no answer, or one that does not say how to go on.
            ObjectStoreRefusedError: no permission, or no bucket.
        """
        place: dict[str, Any] = {"StartAfter": self.prefix + start_after} if start_after else {}
        while True:
            page = await self.s3.call(
                prefix,
                self.s3.client.list_objects_v2,
                needs=("IsTruncated",),
                Bucket=self.s3.bucket,
                Prefix=self.prefix + prefix,
                **place,
            )
            for found in page.get("Contents", ()):
                key = found["Key"].removeprefix(self.prefix)
                if _is_ours(key):
                    yield _listed_info(key, found)
            if not page.get("IsTruncated"):
                return
            if not page.get("NextContinuationToken"):
                raise ObjectStoreUnavailableError(
                    f"a listing of {prefix!r} broke off without saying how to go on"
                )
            place = {"ContinuationToken": page["NextContinuationToken"]}

    # --- removing ---------------------------------------------------------------------------------

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        """Remove an object; an absent one is fine. With `etag` it is looked at first: two requests.

        Raises:
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectStoreUnavailableError: outcome unknown; safe to repeat.
            ObjectStoreRefusedError: no permission, or no bucket.
        """
        check_key(key)
        condition: dict[str, Any] = {}
        if etag is not None:
            # Not every store honours the condition on DELETE, and a wrong delete cannot be taken back.
            try:
                info = await self.head(key)
            except NoSuchObjectError:
                return
            check_etag(info, etag)
            if self.conditional:
                condition = {"IfMatch": etag}
        try:
            await self.s3.call(
                key, self.s3.client.delete_object, Bucket=self.s3.bucket, Key=self.prefix + key, **condition
            )
        except NoSuchObjectError:
            return

    async def abort_stale_uploads(self, prefix: str, *, begun_before_ms: int) -> int:
        """Abort multipart uploads under `prefix` that nobody finished, and return how many.

        Their parts are billed and seen by no listing. Only uploads begun before `begun_before_ms` (UTC
        milliseconds, the store's clock) are touched; none that this process has under way, and none of a
        store that keeps no dates of uploads.

        Raises:
            ObjectStoreUnavailableError, ObjectStoreRefusedError: what was not aborted stays.
        """
        place: dict[str, Any] = {}
        aborted = 0
        while True:
            page = await self.s3.call(
                prefix,
                self.s3.client.list_multipart_uploads,
                Bucket=self.s3.bucket,
                Prefix=self.prefix + prefix,
                **place,
            )
            for found in page.get("Uploads", ()):
                key = found["Key"].removeprefix(self.prefix)
                if key not in self.under_way and is_stale(
                    _ms(found["Initiated"]), begun_before_ms=begun_before_ms
                ):
                    await self.abort_upload(key, found["UploadId"])
                    aborted += 1
            if not page.get("IsTruncated"):
                return aborted
            place = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop a multipart upload; one that is over is fine."""
        try:
            await self.s3.call(
                key,
                self.s3.client.abort_multipart_upload,
                Bucket=self.s3.bucket,
                Key=self.prefix + key,
                UploadId=upload_id,
            )
        except (NoSuchUploadError, NoSuchObjectError):
            return

    async def close(self) -> None:
        """Give connections back."""
        await self.s3.close()


def made_info(key: str, size: int, metadata: Mapping[str, str], answer: Mapping[str, Any]) -> ObjectInfo:
    """Return what is known of an object just made; its time is that of the answer."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        made = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        made = datetime.now(UTC)
    return ObjectInfo(key=key, size=size, etag=answer["ETag"], metadata=dict(metadata), modified_ms=_ms(made))


def head_info(key: str, answer: Mapping[str, Any]) -> ObjectInfo:
    """Return what an answer to HEAD says."""
    return ObjectInfo(
        key=key,
        size=answer["ContentLength"],
        etag=answer["ETag"],
        metadata=untagged(answer.get("Metadata", {})),
        modified_ms=_ms(answer["LastModified"]),
    )


def _listed_info(key: str, found: Mapping[str, Any]) -> ObjectInfo:
    return ObjectInfo(
        key=key, size=found["Size"], etag=found["ETag"], metadata={}, modified_ms=_ms(found["LastModified"])
    )


def _ms(when: datetime) -> int:
    # HEAD gives whole seconds, a listing may give more: the same object has one time.
    return int(when.timestamp()) * 1000


def _is_ours(key: str) -> bool:
    try:
        check_key(key)
    except InvalidKeyError:
        return False
    return True
