"""What an S3 store really honours, learnt by asking: several that are like S3 take a condition and ignore it.

The probe writes a few small objects under `des-probe/`, removes them, and costs about 30 requests.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from des.errors import AlreadyExistsError, DesError
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

WRITERS: Final = 16
"""Creates of one key at once: fewer let a store pass that checks and writes in two steps."""
PROBES: Final = "des-probe/"
"""Start of the keys of probes; what a killed process left there may be removed."""
STALE: Final = '"00000000000000000000000000000000"'
"""An etag that no object has."""


async def probe_s3(store: "S3StorageBackend") -> Capabilities:
    """Find out what the store honours.

    Raises:
        ObjectStoreUnavailableError: it did not answer.
        ObjectStoreRefusedError: wrong credentials, no permission to write, or no bucket.
    """
    await store.demand_bucket()
    probe = _Probe(store, f"{PROBES}{store.new_token()}")
    try:
        return await probe.run()
    finally:
        await probe.tidy()


class _Probe:
    """One run; every key it makes is its own."""

    def __init__(self, store: "S3StorageBackend", key: str) -> None:
        self._store = store
        self._s3 = store.s3
        self._key = key
        self._made: list[str] = []

    async def run(self) -> Capabilities:
        checksums = await self._checksums()
        create = await self._one_winner() and await self._complete_is_conditional()
        key = await self._put("object", b"0123456789")
        conditional_read = await self._read_is_conditional(key)
        ranges = await self._ranges(key)
        copy = await self._copies(key)
        conditional_delete = await self._delete_is_conditional()
        return Capabilities(
            kind="s3",
            conditional_create=create,
            checksums=checksums,
            server_side_copy=copy,
            survives_node=True,
            conditional_read=conditional_read,
            conditional_delete=conditional_delete,
            ranges=ranges,
            advice=tuple(
                sentence
                for lacking, sentence in (
                    (not create, NO_CONDITIONS),
                    (not checksums, _NO_CHECKSUMS),
                    (not conditional_read, NO_READ_CONDITIONS),
                    (not conditional_delete, _NO_DELETE_CONDITIONS),
                    (not ranges, NO_RANGES),
                    (not copy, _NO_COPY),
                )
                if lacking
            ),
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
            await self._put("wrong", data, checksum=checksum_of(b"other", algorithm))
        except DesError:
            return True
        return False

    async def _one_winner(self) -> bool:
        """Whether of many creates at once exactly one wins, and its bytes are what stays."""

        async def create(writer: int) -> bool | None:
            try:
                await self._put("winner", bytes([writer]) * 100, condition={"IfNoneMatch": "*"})
            except (AlreadyExistsError, WriteConflictError):
                return False
            except ObjectStoreForbiddenError:
                raise
            except ObjectStoreRefusedError:
                return None
            return True

        won = await asyncio.gather(*(create(writer) for writer in range(WRITERS)))
        if None in won:
            # The store does not know the header at all: it is left away from now on.
            self._store.conditional = False
            return False
        if won.count(True) != 1:
            return False
        kept = await self._store.get_range(f"{self._key}/winner", 0, 100)
        return kept == bytes([won.index(True)]) * 100

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

    async def _ranges(self, key: str) -> bool:
        try:
            first = await self._store.get_range(key, 0, 1)
            _, last = await self._store.get_tail(key, 3)
        except ObjectStoreUnavailableError:
            raise
        except DesError:
            return False
        return (first, last) == (b"0", b"789")

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
        given = checksum_of(data, self._s3.settings.checksum) if checksum is None else checksum
        try:
            await self._call("put_object", name, Body=data, **given, **(condition or {}))
        except DesError as error:
            raise taken(error, name) from error
        return f"{self._key}/{name}"

    async def _call(self, operation: str, name: str, **arguments: Any) -> Any:
        key = f"{self._key}/{name}"
        self._made.append(key)
        return await self._s3.call(
            key,
            getattr(self._s3.client, operation),
            Bucket=self._s3.bucket,
            Key=self._store.prefix + key,
            **arguments,
        )

    async def tidy(self) -> None:
        """Remove what was made, as far as the store lets us."""
        for key in dict.fromkeys(self._made):
            try:
                await self._store.delete(key)
            except DesError:
                return


NO_CONDITIONS: Final = (
    "of many creates of one key more than one won: keys are never used twice and only the catalog decides "
    "what counts, so nothing is lost, but never let two stores share bucket and prefix"
)
_NO_CHECKSUMS: Final = (
    "bytes are not checked against a checksum on arrival: each container is read back before it counts, and "
    "every byte is checked when it is read"
)
NO_READ_CONDITIONS: Final = "If-Match on reads is ignored: the etag of each answer is compared instead"
_NO_DELETE_CONDITIONS: Final = "If-Match on deletes is ignored: the object is looked at before it is removed"
NO_RANGES: Final = "ranges are not served right: files cannot be read from this store"
_NO_COPY: Final = "parts are not copied inside the store: compaction moves the bytes through the node"
