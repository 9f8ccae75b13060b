"""What an S3 store honours; the probe of buckets with S3's own words."""

from typing import TYPE_CHECKING, Any

from des.errors import AlreadyExistsError, DesError
from des.storage.bucket_probe import CONTENT, STALE, BucketProbe, Lacks
from des.storage.object_store import (
    Capabilities,
    ObjectChangedError,
    ObjectStoreForbiddenError,
    ObjectStoreRefusedError,
    ObjectStoreUnavailableError,
)
from des.storage.s3_body import checksum_of
from des.storage.s3_errors import NoSuchUploadError, WriteConflictError, taken

if TYPE_CHECKING:
    from des.storage.s3 import S3StorageBackend


class S3Probe(BucketProbe):
    """Asks through boto3 itself, with and without the conditions that the backend would send."""

    lacks = Lacks(
        checksums="bytes are not checked against a checksum on arrival",
        conditional_delete="If-Match on deletes is ignored",
        copy="parts",
    )

    def __init__(self, store: "S3StorageBackend") -> None:
        super().__init__(store)
        self._store = store
        self._s3 = store.s3

    async def _find_out(self) -> Capabilities:
        checksums = await self._checksums()
        create = await self._one_winner() and await self._complete_is_conditional()
        key = await self._put("object", CONTENT)
        conditional_read = await self._read_is_conditional(key)
        ranges = await self._ranges(key)
        copy = await self._copies(key)
        conditional_delete = await self._delete_is_conditional()
        return self._honours(
            "s3",
            conditional_create=create,
            checksums=checksums,
            conditional_read=conditional_read,
            conditional_delete=conditional_delete,
            ranges=ranges,
            server_side_copy=copy,
        )

    async def _checksums(self) -> bool:
        """Whether bytes that do not match their checksum are refused, and right ones taken."""
        algorithm = self._s3.settings.checksum
        if algorithm == "when_required":
            return False
        data = b"checksum"
        try:
            await self._put("checksum", data)
        except (ObjectStoreForbiddenError, ObjectStoreUnavailableError):
            raise
        except DesError as error:
            raise ObjectStoreRefusedError(
                f"the store takes no {algorithm} checksums: set s3.checksum to md5 or when_required ({error})"
            ) from error
        try:
            await self._put("wrong", data, checksum=checksum_of([b"other"], algorithm))
        except DesError:
            return True
        return False

    async def _created(self, name: str, data: bytes) -> bool | None:
        try:
            await self._put(name, data, condition={"IfNoneMatch": "*"})
        except (AlreadyExistsError, WriteConflictError):
            return False
        except ObjectStoreForbiddenError:
            raise
        except ObjectStoreRefusedError:
            return None
        return True

    async def _complete_is_conditional(self) -> bool:
        """Whether a multipart upload, too, gives way to an object that is there."""
        upload_id = await self._begin("winner")
        part = await self._call("upload_part", "winner", UploadId=upload_id, PartNumber=1, Body=b"late")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        try:
            await self._call(
                "complete_multipart_upload",
                "winner",
                UploadId=upload_id,
                MultipartUpload=parts,
                IfNoneMatch="*",
            )
        except (ObjectChangedError, WriteConflictError):
            await self._store.abort_upload(f"{self._key}/winner", upload_id)
            return True
        except NoSuchUploadError:
            return True
        return False

    async def _read_is_conditional(self, key: str) -> bool:
        try:
            await self._call("get_object", key.rpartition("/")[2], IfMatch=STALE, Range="bytes=0-0")
        except ObjectChangedError:
            return True
        return False

    async def _copies(self, key: str) -> bool:
        try:
            upload_id = await self._begin("copy")
            answer = await self._call(
                "upload_part_copy",
                "copy",
                UploadId=upload_id,
                PartNumber=1,
                CopySource={"Bucket": self._s3.bucket, "Key": self._store.prefix + key},
                CopySourceRange="bytes=2-5",
            )
            parts = {"Parts": [{"PartNumber": 1, "ETag": answer["CopyPartResult"]["ETag"]}]}
            await self._call("complete_multipart_upload", "copy", UploadId=upload_id, MultipartUpload=parts)
            return await self._store.get_range(f"{self._key}/copy", 0, 4) == b"2345"
        except ObjectStoreUnavailableError:
            raise
        except DesError:
            return False

    async def _delete_is_conditional(self) -> bool:
        await self._put("condemned", b"x")
        try:
            await self._call("delete_object", "condemned", IfMatch=STALE)
        except ObjectChangedError:
            return True
        except ObjectStoreUnavailableError:
            raise
        except DesError:
            return False
        return False

    async def _begin(self, name: str) -> str:
        upload_id: str = (await self._call("create_multipart_upload", name))["UploadId"]
        return upload_id

    async def _put(self, name: str, data: bytes, *, checksum: Any = None, condition: Any = None) -> str:
        given = checksum_of([data], self._s3.settings.checksum) if checksum is None else checksum
        try:
            await self._call("put_object", name, Body=data, **given, **(condition or {}))
        except DesError as error:
            raise taken(error, name) from error
        return f"{self._key}/{name}"

    async def _call(self, operation: str, name: str, **arguments: Any) -> Any:
        key = self._name(name)
        return await self._s3.call(
            key,
            getattr(self._s3.client, operation),
            Bucket=self._s3.bucket,
            Key=self._store.prefix + key,
            **arguments,
        )
