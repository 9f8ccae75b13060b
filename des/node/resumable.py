"""Uploads that go on where they stopped, whatever stopped them (docs/adr/0009).

The bytes wait on the node's own disk, synced block by block; the finished file takes the way of every
other one. Its name is fixed when the upload starts, so finishing may be repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import structlog

from des.assignment.assigner import RequestIdConflictError
from des.clock import Clock
from des.cluster import NotShardOwnerError, not_shard_owner
from des.config import Settings
from des.errors import (
    ConflictError,
    DesError,
    ExhaustedError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from des.files import FileInfo, FileSpec
from des.naming import parse_name
from des.node import upload_folder
from des.node.put_result import PutResult
from des.node.upload_folder import Extent, UploadFolder, UploadRecord
from des.node.write_path import WritePath
from des.node.write_rules import FileTooLargeError, UploadSizeMismatchError
from des.storage.disk import DiskFile

P = ParamSpec("P")
T = TypeVar("T")

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


class UploadOffsetError(InvalidInputError):
    """A chunk that does not continue where the upload stands."""

    reason = "OFFSET_MISMATCH"


class UploadStorageError(UnavailableError):
    """The disk did not take or give the bytes of an upload."""


class UploadDiskFullError(ExhaustedError):
    """No room for more of an upload; nothing was written."""

    reason = "DISK_FULL"


@dataclass(slots=True)
class _Upload:
    record: UploadRecord
    extent: Extent | None = None
    """None until the bytes were looked at."""
    busy: bool = False
    measuring: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Measuring cuts off what is not whole, so it ends before anybody writes."""


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
        self._writes = writes
        self._stat = stat
        self._clock = clock
        self._random_bytes = random_bytes
        self._executor = executor
        self._uploads: dict[str, _Upload] = {}

    async def load(self) -> None:
        """Find the uploads of earlier starts.

        Raises:
            UploadStorageError: the disk refused.
        """
        for record in await self.blocking(self._folder.load):
            self._uploads[record.key] = _Upload(record)

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
        self._uploads[record.key] = _Upload(record, Extent(0, 0))
        try:
            await self.blocking(self._folder.save, record)
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
            await self.blocking(self._folder.remove, upload.record.key)
            self._uploads.pop(upload.record.key, None)
        finally:
            upload.busy = False

    async def resume(self, upload_id: str) -> "UploadWriter":
        """Go on with an upload; the writer must be closed.

        Raises:
            UploadNotFoundError: no such upload.
            ConcurrentUploadError: somebody else is writing to it.
        """
        upload = self._find(upload_id)
        self._claim(upload, upload_id)
        try:
            if upload.record.finished:
                return UploadWriter(self, upload, upload_id, None, await self._stat(upload.record.spec.name))
            extent = await self._measured(upload)
            file = await self.blocking(self._folder.open, upload.record.key)
        except BaseException:
            upload.busy = False
            raise
        assert extent is upload.extent
        return UploadWriter(self, upload, upload_id, file, None)

    async def append(self, upload: _Upload, file: DiskFile, data: bytes) -> None:
        """Keep more bytes of an upload; they are on the device when this returns."""
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
        free = await self.blocking(self._folder.free_bytes)
        if free - len(data) < self._settings.log.reserve_free_bytes:
            raise UploadDiskFullError(
                f"{free} bytes of disk are free, {len(data)} more of an upload would leave less than "
                "the reserve",
                free_bytes=free,
                needed_bytes=len(data) + int(self._settings.log.reserve_free_bytes),
            )
        upload.extent = await self.blocking(upload_folder.append, file, upload.extent, data)

    async def finish(
        self, upload: _Upload, file: DiskFile, crc32c: int | None, sha256: bytes | None
    ) -> PutResult:
        """Store the file; may be repeated."""
        assert upload.extent is not None
        writing = await self.begin(replace(upload.record.spec, request_id=""))
        try:
            place = 0
            while place < upload.extent.stop:
                data, place = await self.blocking(upload_folder.read_block, file, place)
                await writing.write(data)
            result: PutResult = await writing.finish(crc32c, sha256)
        finally:
            await writing.abort()
        upload.record = replace(upload.record, finished=True)
        await self.blocking(self._folder.save, upload.record)
        await self.blocking(self._folder.drop_bytes, upload.record.key)
        return result

    async def step(self) -> None:
        """Give up the uploads whose time is over.

        Raises:
            UploadStorageError: one could not be removed; it is tried again.
        """
        now = self._clock.now_ms()
        for key, upload in list(self._uploads.items()):
            if upload.record.expires_ms <= now and not upload.busy:
                del self._uploads[key]
                await self.blocking(self._folder.remove, key)

    async def run(self) -> None:
        """Repeat `step` until cancelled."""
        while True:
            await self._clock.sleep(SWEEP_S)
            try:
                await self.step()
            except DesError as error:
                _log.warning("expired upload not removed", error=str(error))

    async def blocking(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks in a thread.

        Raises:
            UploadStorageError: the disk refused.
        """
        try:
            if self._executor is None:
                return call(*args, **kwargs)
            work = asyncio.get_running_loop().run_in_executor(self._executor, partial(call, *args, **kwargs))
            return await _unbroken(work)
        except OSError as error:
            raise UploadStorageError(f"the disk refused bytes of an upload: {error}") from error

    async def _measured(self, upload: _Upload) -> Extent:
        async with upload.measuring:
            if upload.extent is None:
                file = await self.blocking(self._folder.open, upload.record.key)
                try:
                    upload.extent = await self.blocking(upload_folder.measure, file)
                finally:
                    file.close()
            return upload.extent

    def _find(self, upload_id: str) -> _Upload:
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
    def _claim(upload: _Upload, upload_id: str) -> None:
        if upload.busy:
            raise ConcurrentUploadError(
                f"somebody else is writing to upload {upload_id!r}", upload_id=upload_id
            )
        upload.busy = True


class UploadWriter:
    """One stream of bytes into an upload; nobody else writes to it meanwhile."""

    def __init__(
        self,
        uploads: ResumableUploads,
        upload: _Upload,
        upload_id: str,
        file: DiskFile | None,
        finished: FileInfo | None,
    ) -> None:
        self._uploads = uploads
        self._upload = upload
        self._file = file
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
            await _unbroken(asyncio.ensure_future(self._uploads.append(self._upload, self._file, data)))

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
        return await _unbroken(
            asyncio.ensure_future(self._uploads.finish(self._upload, self._file, crc32c, sha256))
        )

    def close(self) -> None:
        """Let others write. Twice is once."""
        file, self._file = self._file, None
        if file is not None or self.finished is not None:
            self._upload.busy = False
        if file is not None:
            file.close()


async def _unbroken(work: "asyncio.Future[T]") -> T:
    """Wait until work is done even when the caller is cancelled: the file must not change under it."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _id(record: UploadRecord) -> str:
    """Return an upload's id. It has the file's name, so that any node can tell whose it is."""
    return f"{record.spec.name}{_SEPARATOR}{record.key}"
