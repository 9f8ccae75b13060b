"""One object written to S3 in parts: bounded memory, one winner, nothing visible before the end."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from des.errors import AlreadyExistsError, DesError, InvalidInputError
from des.format.crc_combine import combine
from des.storage.checks import check_key
from des.storage.object_store import (
    Body,
    NoSuchObjectError,
    ObjectDamagedError,
    ObjectInfo,
    ObjectStoreUnavailableError,
)
from des.storage.parted_upload import Bytes, PartedUpload
from des.storage.s3_body import PiecesFile, checksum_of, crc32c_of, encode_crc32c
from des.storage.s3_errors import taken
from des.storage.write_token import tagged

if TYPE_CHECKING:
    from des.storage.s3 import S3StorageBackend

PARTS_MAX: Final = 10_000
COPY_SIZE_MIN: Final = 5 << 20
"""A part that is not the last is at least this long."""
COPY_SIZE_MAX: Final = 1 << 30
"""Bytes that one request copies: a copy takes seconds, and S3 takes up to 5 GiB."""


class ObjectTooLongError(InvalidInputError):
    """The stream needs more parts than the store takes."""

    reason = "FILE_TOO_LARGE"


class S3Upload(PartedUpload):
    """Parts are sent while the next one fills, as many at once as all uploads of the store may."""

    def __init__(self, store: "S3StorageBackend", key: str, metadata: Mapping[str, str]) -> None:
        super().__init__(key, metadata, token=store.new_token(), part_size=int(store.s3.settings.part_bytes))
        self._store = store
        self._s3 = store.s3
        self._algorithm = store.s3.settings.checksum
        self._sums: dict[int, tuple[int, int]] = {}
        """Of the parts that were here, by number: CRC32C and bytes."""
        self._upload_id = ""
        self._parts: list[asyncio.Task[dict[str, Any]]] = []
        store.under_way.add(self)

    async def write_body(self, body: Body) -> None:
        """Append a whole body to an upload that has nothing yet; its parts go as they are read, not copied.

        Raises:
            ObjectDamagedError: it ends before its own size.
            DesError: as `write`.
        """
        self._demand_open()
        size = body.size()
        try:
            while self._size < size:
                data = await asyncio.to_thread(self._read_part, body, size)
                await self._start(self._send_part, [data])
        except BaseException:
            self._over = True
            raise

    def _read_part(self, body: Body, size: int) -> bytes:
        wanted = min(self._part_size, size - self._size)
        pieces: list[bytes] = []
        while wanted:
            data = body.pread(wanted, self._size)
            if not data:
                raise ObjectDamagedError(f"body of {self.key!r} ends at {self._size}, its size is {size}")
            pieces.append(data)
            self._size += len(data)
            wanted -= len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def copy_from(self, key: str, start: int, stop: int, *, etag: str) -> None:
        """Append the bytes `[start, stop)` of another object, which the store moves itself.

        Only what would be too short a part passes through here: up to 5 MiB before and after.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is not the object's.
            ObjectDamagedError: the object ends before `stop`.
            DesError: as `write`.
        """
        check_key(key)
        self._demand_open()
        if self._filled:
            lead = min(stop, start + max(0, COPY_SIZE_MIN - self._filled))
            await self.write(await self._store.get_range(key, start, lead, etag=etag))
            start = lead
        try:
            if stop - start >= COPY_SIZE_MIN:
                if self._filled:
                    await self._send_filled()
                while stop - start >= COPY_SIZE_MIN:
                    end = min(stop, start + COPY_SIZE_MAX)
                    await self._start(self._copy_part, key, start, end, etag)
                    self._size += end - start
                    start = end
        except BaseException:
            self._over = True
            raise
        if start < stop:
            await self.write(await self._store.get_range(key, start, stop, etag=etag))

    async def finish(self) -> ObjectInfo:
        """Make the object visible and durable, whole.

        Raises:
            UploadOverError: it was finished, aborted, or failed.
            ObjectExistsError: the key was taken meanwhile; nothing was written.
            ObjectStoreUnavailableError: outcome unknown; `head` tells.
            DesError: a part was not taken.
        """
        self._demand_open()
        self._over = True
        if not self._parts:
            pieces = self._take_filled()
            return await self._store.put(
                self.key,
                PiecesFile(pieces),
                size=self._size,
                metadata=self._metadata,
                checksum=checksum_of(pieces, self._algorithm),
            )
        if self._filled:
            await self._send_filled()
        return await self._complete([await part for part in self._parts])

    async def abort(self) -> None:
        """Drop what was written. Safe after any failure, and twice; a finished object stays."""
        self._over = True
        self._drop_filled()
        for part in self._parts:
            part.cancel()
        await asyncio.gather(*self._parts, return_exceptions=True)
        self._parts.clear()
        self.is_under_way = False
        if self._upload_id:
            upload_id, self._upload_id = self._upload_id, ""
            try:
                await self._store.abort_upload(self.key, upload_id)
            except DesError:
                # `abort_stale_uploads` finds it later; the failure that led here matters more.
                return

    async def _complete(self, parts: list[dict[str, Any]]) -> ObjectInfo:
        whole: dict[str, Any] = {}
        # Not where the store copied bytes that were never here.
        if self._algorithm == "crc32c" and len(self._sums) == len(parts):
            crc = await asyncio.to_thread(self._whole_crc)
            whole = {"ChecksumCRC32C": encode_crc32c(crc), "ChecksumType": "FULL_OBJECT"}
        try:
            answer = await self._s3.call(
                self.key,
                self._s3.client.complete_multipart_upload,
                Bucket=self._s3.bucket,
                Key=self._store.prefix + self.key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": parts},
                **self._store.free_condition(),
                **whole,
            )
            self._upload_id = ""
            # The answer names no size, and a 200 may have an error in it: look.
            del answer
            return await self._settle(ObjectStoreUnavailableError(f"object {self.key!r} is not there yet"))
        except (AlreadyExistsError, ObjectStoreUnavailableError, NoSuchObjectError) as error:
            return await self._settle(error)
        except DesError as error:
            return await self._settle(taken(error, self.key))

    async def _settle(self, error: DesError) -> ObjectInfo:
        info = await self._store.settle(self.key, size=self._size, token=self._token, error=error)
        self._upload_id = ""
        self.is_under_way = False
        return info

    async def _send_filled(self) -> None:
        await self._start(self._send_part, self._take_filled())

    def _whole_crc(self) -> int:
        crc = 0
        for _, (part, size) in sorted(self._sums.items()):
            crc = combine(crc, part, size)
        return crc

    async def _start(self, send: Any, *arguments: Any) -> None:
        """Start a part when there is room for it; raise what an earlier one failed with."""
        number = len(self._parts) + 1
        if number > PARTS_MAX:
            raise ObjectTooLongError(
                f"{self.key!r} needs more than {PARTS_MAX} parts of {self._part_size} bytes: "
                "raise s3.part_bytes",
                size=self._size,
                max_size=PARTS_MAX * self._part_size,
            )
        for part in self._parts:
            if part.done():
                part.result()
        await self._begin()
        await self._store.sending.acquire()
        task = asyncio.ensure_future(send(number, *arguments))
        task.add_done_callback(lambda _: self._store.sending.release())
        self._parts.append(task)

    async def _begin(self) -> None:
        if self._upload_id:
            return
        if not self._store.conditional:
            await self._store.demand_free(self.key)
        self.is_under_way = True
        whole: dict[str, Any] = {}
        if self._algorithm == "crc32c":
            whole = {"ChecksumAlgorithm": "CRC32C", "ChecksumType": "FULL_OBJECT"}
        answer = await self._s3.call(
            self.key,
            self._s3.client.create_multipart_upload,
            needs=("UploadId",),
            Bucket=self._s3.bucket,
            Key=self._store.prefix + self.key,
            Metadata=tagged(self._metadata, self._token),
            **whole,
        )
        self._upload_id = answer["UploadId"]

    async def _send_part(self, number: int, pieces: Sequence[Bytes]) -> dict[str, Any]:
        answer = await self._s3.call(
            self.key,
            partial(self._upload_part, number, pieces),
            sent_bytes=sum(map(len, pieces)),
            needs=("ETag",),
            Bucket=self._s3.bucket,
            Key=self._store.prefix + self.key,
            UploadId=self._upload_id,
            PartNumber=number,
        )
        crc: dict[str, Any] = {}
        if number in self._sums:
            crc = {"ChecksumCRC32C": encode_crc32c(self._sums[number][0])}
        return {"PartNumber": number, "ETag": answer["ETag"], **crc}

    def _upload_part(self, number: int, pieces: Sequence[Bytes], **arguments: Any) -> Any:
        """Send a part, unjoined, and sum it, in the thread that sends it."""
        if self._algorithm == "crc32c":
            crc = crc32c_of(pieces)
            self._sums[number] = crc, sum(map(len, pieces))
            checksum: Mapping[str, Any] = {"ChecksumCRC32C": encode_crc32c(crc)}
        else:
            checksum = checksum_of(pieces, self._algorithm)
        return self._s3.client.upload_part(Body=PiecesFile(pieces), **arguments, **checksum)

    async def _copy_part(self, number: int, key: str, start: int, stop: int, etag: str) -> dict[str, Any]:
        answer = await self._s3.call(
            key,
            self._s3.client.upload_part_copy,
            sent_bytes=stop - start,
            needs=("CopyPartResult",),
            Bucket=self._s3.bucket,
            Key=self._store.prefix + self.key,
            UploadId=self._upload_id,
            PartNumber=number,
            CopySource={"Bucket": self._s3.bucket, "Key": self._store.prefix + key},
            CopySourceIfMatch=etag,
            CopySourceRange=f"bytes={start}-{stop - 1}",
        )
        result = answer["CopyPartResult"]
        crc = {name: value for name, value in result.items() if name == "ChecksumCRC32C"}
        return {"PartNumber": number, "ETag": result["ETag"], **crc}
