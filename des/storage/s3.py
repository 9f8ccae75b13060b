"""Objects in S3 and its like: boto3 writes and administers, obstore reads ranges.

A new object is written under `If-None-Match: *`. A 412 on a retry, a timeout after the effect and a 200 with
an error in it end as what they were, since each write is known by its token (`des.storage.bucket`).
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
from des.storage.bucket import BucketStore
from des.storage.checks import InvalidKeyError, check_key
from des.storage.object_store import (
    Body,
    Capabilities,
    NoSuchObjectError,
    ObjectInfo,
    ObjectStoreUnavailableError,
)
from des.storage.obstore_reads import tail_or_nothing
from des.storage.s3_body import BodyFile, PiecesFile, checksum_of_body
from des.storage.s3_client import S3Client
from des.storage.s3_errors import NoSuchUploadError, WriteConflictError, taken
from des.storage.s3_upload import S3Upload
from des.storage.uploads_under_way import is_stale
from des.storage.write_token import TOKEN, tagged, untagged

CONFLICTS_MAX: Final = 5
"""How often a create is repeated because another one of the same key was under way."""
CONFLICT_WAIT_S: Final = 0.2


class S3StorageBackend(BucketStore[S3Upload]):
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
        super().__init__(
            prefix=prefix,
            settings=self.s3.settings,
            reads=self.s3.reads,
            clock=clock or SystemClock(),
            random_bytes=random_bytes,
        )
        self.sending: Final = asyncio.Semaphore(self.s3.settings.parts_at_once)
        """Parts on their way, of all uploads together."""

    async def _probe(self) -> Capabilities:
        from des.storage.s3_probe import S3Probe  # noqa: PLC0415  the probe works on the backend

        return await S3Probe(self).run()

    # --- writing ----------------------------------------------------------------------------------

    async def _create_short(self, key: str, body: Body, metadata: Mapping[str, str]) -> ObjectInfo:
        checksum = await asyncio.to_thread(checksum_of_body, body, key, self.s3.settings.checksum)
        return await self.put(key, BodyFile(body), size=body.size(), metadata=metadata, checksum=checksum)

    def _new_upload(self, key: str, metadata: Mapping[str, str]) -> S3Upload:
        return S3Upload(self, key, metadata)

    async def put(
        self, key: str, data: BodyFile | PiecesFile, *, size: int, metadata: Mapping[str, str], checksum: Any
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
        data: BodyFile | PiecesFile,
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

    def free_condition(self) -> Mapping[str, Any]:
        """Return the condition that the key is free, where the store takes conditions."""
        return {"IfNoneMatch": "*"} if self.conditional else {}

    # --- reading ----------------------------------------------------------------------------------

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
            self.reads, self.prefix + key, key=key, size=size, etag=etag, head=self.head
        )

    async def _look(self, key: str) -> tuple[ObjectInfo, str | None]:
        answer = await self.s3.call(
            key,
            self.s3.client.head_object,
            needs=("ContentLength", "ETag", "LastModified"),
            Bucket=self.s3.bucket,
            Key=self.prefix + key,
        )
        return head_info(key, answer), answer.get("Metadata", {}).get(TOKEN)

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

    async def _remove(self, key: str, etag: str | None) -> None:
        condition: dict[str, Any] = {"IfMatch": etag} if etag is not None and self.conditional else {}
        await self.s3.call(
            key, self.s3.client.delete_object, Bucket=self.s3.bucket, Key=self.prefix + key, **condition
        )

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
