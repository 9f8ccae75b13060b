"""Uploads that go on where they stopped, whatever stopped them (docs/adr/0009).

The bytes wait on the node's own disk, synced block by block; the finished file takes the way of every
other one. Its name is fixed when the upload starts, so finishing may be repeated.
"""

from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Final

import structlog

from des.assignment.assigner import RequestIdConflictError
from des.clock import Clock
from des.cluster import NotShardOwnerError, not_shard_owner
from des.config import Settings
from des.errors import ConflictError, DesError, ExhaustedError, NotFoundError
from des.files import FileInfo, FileSpec
from des.naming import parse_name
from des.node import upload_folder
from des.node.upload_disk import UploadDisk, UploadStorageError
from des.node.upload_folder import Extent, UploadFolder, UploadRecord
from des.node.upload_writer import UnfinishedUpload, UploadWriter
from des.node.write_path import WritePath
from des.storage.disk import DiskFile

SWEEP_S: Final = 60
"""How often uploads that nobody goes on with are looked for."""
_SEPARATOR: Final = "~"

_log = structlog.get_logger(__name__)


NODE_MARK: Final = "node_mark"
"""Among an error's details: how the UUID of the node that has the upload begins."""
_MARK_LENGTH: Final = 8


class UploadNotFoundError(NotFoundError):
    """No upload has this id: never begun, cancelled, or given up after its time."""

    reason = "UPLOAD_NOT_FOUND"


class ConcurrentUploadError(ConflictError):
    """Somebody else is writing to the upload just now."""

    reason = "CONCURRENT_UPLOAD"


class ResumableUploads:
    """The unfinished uploads of one node."""

    def __init__(
        self,
        *,
        settings: Settings,
        folder: UploadFolder,
        writes: WritePath,
        stat: Callable[[str], Awaitable[FileInfo]],
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        executor: Executor | None,
        node: str = "",
    ) -> None:
        """Keep uploads.

        Args:
            settings: of the node.
            folder: has their bytes.
            writes: takes finished files.
            stat: describes a file.
            clock: ends uploads that nobody goes on with.
            random_bytes: for ids.
            executor: runs what blocks.
            node: UUID of this node in a cluster, whose uploads only it can go on with; empty for a node
                that is alone.
        """
        self._mark = node.replace("-", "")[:_MARK_LENGTH]
        self.begin: Callable[[FileSpec], Awaitable[Any]] = writes.begin
        """Begins the finished file; another node's shard may have its name by then."""
        self._settings = settings
        self._folder = folder
        self._disk = UploadDisk(executor)
        self._writes = writes
        self._stat = stat
        self._clock = clock
        self._random_bytes = random_bytes
        self._uploads: dict[str, UnfinishedUpload] = {}

    async def load(self) -> None:
        """Find the uploads of earlier starts.

        Raises:
            UploadStorageError: the disk refused.
        """
        for record in await self._disk.run(self._folder.load):
            self._uploads[record.key] = UnfinishedUpload(record)

    async def start(self, spec: FileSpec) -> tuple[str, int]:
        """Begin an upload; return its id and when it is given up, UTC milliseconds since 1970.

        Repeated with the same request id and specification it returns the same upload.

        Raises:
            InvalidInputError: a field of `spec` breaks a rule.
            DisabledError: a durability that this store does not serve.
            ExhaustedError: too many uploads are unfinished.
        """
        self._writes.check(spec)
        await self._writes.admit(spec)
        if spec.request_id:
            for known in self._uploads.values():
                if known.record.spec.request_id == spec.request_id:
                    return self._repeated(known.record, spec)
        if sum(not each.record.finished for each in self._uploads.values()) >= self._settings.limits.uploads:
            raise ExhaustedError(
                f"{self._settings.limits.uploads} uploads are unfinished, no more may begin",
                quota="uploads",
                limit=self._settings.limits.uploads,
            )
        name, _, _ = await self._writes.place(spec)
        record = UploadRecord(
            self._mark + self._random_bytes(16).hex()[len(self._mark) :],
            replace(spec, name=name, prefix=""),
            self._clock.now_ms() + round(self._settings.limits.upload_ttl_s * 1000),
        )
        self._uploads[record.key] = UnfinishedUpload(record, Extent(0, 0))
        try:
            await self._disk.run(self._folder.save, record)
        except BaseException:
            del self._uploads[record.key]
            raise
        return _id(record), record.expires_ms

    @staticmethod
    def _repeated(record: UploadRecord, spec: FileSpec) -> tuple[str, int]:
        same = replace(record.spec, name=spec.name, prefix=spec.prefix)
        if same != spec or (spec.name and spec.name != record.spec.name):
            raise RequestIdConflictError(
                f"request id {spec.request_id!r} began an upload of {record.spec.name!r} with another "
                "specification",
                request_id=spec.request_id,
                name=record.spec.name,
            )
        return _id(record), record.expires_ms

    async def status(self, upload_id: str) -> int | FileInfo:
        """Return how many bytes are kept, or the file once it is finished.

        Raises:
            UploadNotFoundError: no such upload.
            FileDeletedError: the finished file was deleted since.
        """
        upload = self._find(upload_id)
        if upload.record.finished:
            return await self._stat(upload.record.spec.name)
        if upload.busy and upload.extent is not None:
            return upload.extent.size
        return (await self._measured(upload)).size

    async def cancel(self, upload_id: str) -> None:
        """Give an upload up. A finished one keeps its file.

        Raises:
            UploadNotFoundError: no such upload.
            ConcurrentUploadError: somebody is writing to it.
        """
        upload = self._find(upload_id)
        self._claim(upload, upload_id)
        try:
            await self._disk.run(self._folder.remove, upload.record.key)
            self._uploads.pop(upload.record.key, None)
        finally:
            upload.busy = False

    async def resume(self, upload_id: str) -> UploadWriter:
        """Go on with an upload; the writer must be closed.

        Raises:
            UploadNotFoundError: no such upload.
            ConcurrentUploadError: somebody else is writing to it.
        """
        upload = self._find(upload_id)
        self._claim(upload, upload_id)
        try:
            if upload.record.finished:
                return self._writer(upload, upload_id, None, await self._stat(upload.record.spec.name))
            extent = await self._measured(upload)
            file = await self._disk.run(self._folder.open, upload.record.key)
        except BaseException:
            upload.busy = False
            raise
        assert extent is upload.extent
        return self._writer(upload, upload_id, file, None)

    def _writer(
        self, upload: UnfinishedUpload, upload_id: str, file: DiskFile | None, finished: FileInfo | None
    ) -> UploadWriter:
        return UploadWriter(
            upload,
            upload_id,
            file,
            finished,
            settings=self._settings,
            folder=self._folder,
            disk=self._disk,
            begin=self.begin,
        )

    async def step(self) -> None:
        """Give up the uploads whose time is over.

        Raises:
            UploadStorageError: one could not be removed; it is tried again.
        """
        now = self._clock.now_ms()
        failed: UploadStorageError | None = None
        for key, upload in list(self._uploads.items()):
            if upload.record.expires_ms <= now and not upload.busy:
                del self._uploads[key]
                try:
                    await self._disk.run(self._folder.remove, key)
                except UploadStorageError as error:
                    self._uploads[key] = upload
                    failed = error
        if failed is not None:
            raise failed

    async def run(self) -> None:
        """Repeat `step` until cancelled."""
        while True:
            await self._clock.sleep(SWEEP_S)
            try:
                await self.step()
            except DesError as error:
                _log.warning("expired upload not removed", error=str(error))

    async def _measured(self, upload: UnfinishedUpload) -> Extent:
        async with upload.measuring:
            if upload.extent is None:
                file = await self._disk.run(self._folder.open, upload.record.key)
                try:
                    upload.extent = await self._disk.run(upload_folder.measure, file)
                finally:
                    file.close()
            return upload.extent

    def _find(self, upload_id: str) -> UnfinishedUpload:
        name, _, key = upload_id.rpartition(_SEPARATOR)
        upload = self._uploads.get(key)
        if upload is None and self._mark and not key.startswith(self._mark):
            raise self._elsewhere(name, key)
        if (
            upload is None
            or _id(upload.record) != upload_id
            or upload.record.expires_ms <= self._clock.now_ms()
        ):
            raise UploadNotFoundError(f"no upload has the id {upload_id[:128]!r}", upload_id=upload_id)
        return upload

    def _elsewhere(self, name: str, key: str) -> UploadNotFoundError | NotShardOwnerError:
        """Return the error for an upload that another node has, as far as its id says."""
        mark = key[:_MARK_LENGTH]
        try:
            bytes.fromhex(key)
            parse_name(name)
        except (ValueError, DesError):
            return UploadNotFoundError(f"no upload has the id {f'{name}{_SEPARATOR}{key}'[:128]!r}")
        shard = self._writes.day_and_shard(name)[2]
        error = not_shard_owner(
            shard, f"has an upload at the node whose UUID begins with {mark}, which is away"
        )
        error.details[NODE_MARK] = mark
        return error

    @staticmethod
    def _claim(upload: UnfinishedUpload, upload_id: str) -> None:
        if upload.busy:
            raise ConcurrentUploadError(
                f"somebody else is writing to upload {upload_id!r}", upload_id=upload_id
            )
        upload.busy = True


def _id(record: UploadRecord) -> str:
    """Return an upload's id. It has the file's name, so that any node can tell whose it is."""
    return f"{record.spec.name}{_SEPARATOR}{record.key}"
