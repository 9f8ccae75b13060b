"""One stream of bytes into an unfinished upload, and what it ends in."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from des.config import Settings
from des.errors import ExhaustedError, InvalidInputError
from des.files import FileInfo, FileSpec
from des.node import upload_folder
from des.node.put_result import PutResult
from des.node.upload_disk import UploadDisk, unbroken
from des.node.upload_folder import Extent, UploadFolder, UploadRecord
from des.node.write_rules import FileTooLargeError, UploadSizeMismatchError
from des.storage.disk import DiskFile


class UploadOffsetError(InvalidInputError):
    """A chunk that does not continue where the upload stands."""

    reason = "OFFSET_MISMATCH"


class UploadDiskFullError(ExhaustedError):
    """No room for more of an upload; nothing was written."""

    reason = "DISK_FULL"


@dataclass(slots=True)
class UnfinishedUpload:
    """An upload while the node runs."""

    record: UploadRecord
    extent: Extent | None = None
    """None until the bytes were looked at."""
    busy: bool = False
    measuring: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Measuring cuts off what is not whole, so it ends before anybody writes."""


class UploadWriter:
    """One stream of bytes into an upload; nobody else writes to it meanwhile."""

    def __init__(
        self,
        upload: UnfinishedUpload,
        upload_id: str,
        file: DiskFile | None,
        finished: FileInfo | None,
        *,
        settings: Settings,
        folder: UploadFolder,
        disk: UploadDisk,
        begin: Callable[[FileSpec], Awaitable[Any]],
    ) -> None:
        """For `ResumableUploads.resume`: `upload` is busy until this is closed."""
        self._upload = upload
        self._file = file
        self._settings = settings
        self._folder = folder
        self._disk = disk
        self._begin = begin
        self.upload_id = upload_id
        self.finished = finished
        """The file, where the upload was finished before."""

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        assert self._upload.extent is not None
        return self._upload.extent.size

    async def write(self, offset: int, data: bytes) -> None:
        """Keep `data`, which must continue what is kept.

        Raises:
            UploadOffsetError: it does not.
            UploadSizeMismatchError, FileTooLargeError: more than declared, or than a file may have.
            UploadDiskFullError, UploadStorageError: the disk has no room, or refused.
        """
        self.check_offset(offset)
        if data:
            assert self._file is not None
            await unbroken(asyncio.ensure_future(self._append(self._file, data)))

    def check_offset(self, offset: int) -> None:
        """Refuse an offset that is not the end of what is kept."""
        if offset != self.size:
            raise UploadOffsetError(
                f"write_offset is {offset}, {self.size} bytes are kept",
                expected_offset=self.size,
                actual_offset=offset,
            )

    async def finish(self, crc32c: int | None, sha256: bytes | None) -> PutResult:
        """Store the file; errors as for `Upload.finish`, after which the upload is as before."""
        assert self._file is not None
        return await unbroken(asyncio.ensure_future(self._store(self._file, crc32c, sha256)))

    def close(self) -> None:
        """Let others write. Twice is once."""
        file, self._file = self._file, None
        if file is not None or self.finished is not None:
            self._upload.busy = False
        if file is not None:
            file.close()

    async def _append(self, file: DiskFile, data: bytes) -> None:
        """Keep more bytes; they are on the device when this returns."""
        upload = self._upload
        spec = upload.record.spec
        assert upload.extent is not None
        received = upload.extent.size + len(data)
        if spec.size is not None and received > spec.size:
            raise UploadSizeMismatchError(
                f"at least {received} bytes arrived, {spec.size} were declared",
                expected=spec.size,
                actual=received,
            )
        if received > self._settings.limits.file_bytes:
            raise FileTooLargeError(
                f"file has {received} bytes, at most {int(self._settings.limits.file_bytes)} are allowed",
                size=received,
                max_size=int(self._settings.limits.file_bytes),
            )
        free = await self._disk.run(self._folder.free_bytes)
        if free - len(data) < self._settings.log.reserve_free_bytes:
            raise UploadDiskFullError(
                f"{free} bytes of disk are free, {len(data)} more of an upload would leave less than "
                "the reserve",
                free_bytes=free,
                needed_bytes=len(data) + int(self._settings.log.reserve_free_bytes),
            )
        upload.extent = await self._disk.run(upload_folder.append, file, upload.extent, data)

    async def _store(self, file: DiskFile, crc32c: int | None, sha256: bytes | None) -> PutResult:
        """Store the file; may be repeated."""
        upload = self._upload
        assert upload.extent is not None
        writing = await self._begin(replace(upload.record.spec, request_id=""))
        try:
            place = 0
            while place < upload.extent.stop:
                data, place = await self._disk.run(upload_folder.read_block, file, place)
                await writing.write(data)
            result: PutResult = await writing.finish(crc32c, sha256)
        finally:
            await writing.abort()
        upload.record = replace(upload.record, finished=True)
        await self._disk.run(self._folder.save, upload.record)
        await self._disk.run(self._folder.drop_bytes, upload.record.key)
        return result
