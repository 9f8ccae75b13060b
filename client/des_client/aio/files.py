"""One file at a time: put, get, open, stat, delete."""

import os
import uuid
from collections.abc import Mapping
from typing import BinaryIO

from des_proto.v1 import file_service_pb2

from des_client import calls, convert
from des_client.aio.downloads import AsyncDownloads
from des_client.aio.uploads import OnProgress
from des_client.async_source import AsyncData
from des_client.download import Download
from des_client.errors import FileMissing
from des_client.reader import BUFFER_BYTES, AsyncFileReader
from des_client.types import AssignedName, Durability, FileInfo, PutResult


class AsyncFiles(AsyncDownloads):
    """Calls about one file."""

    async def put(
        self,
        data: AsyncData,
        *,
        name: str | None = None,
        prefix: str = "",
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        size: int | None = None,
        request_id: str | None = None,
        durability: Durability | None = None,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> PutResult:
        """Store one file.

        Safe to repeat: a name never changes content, and without a name one `request_id` goes with
        every attempt, so that a retry never makes a second file. A large file that can be read again
        goes on where the server lost it, if the server keeps unfinished uploads.

        >>> put = await des.put(b"hello", content_type="text/plain", metadata={"owner": "me"})
        >>> put.file.size_bytes, put.already_existed
        (5, False)

        Args:
            data: bytes, a path, a binary file (from its present position), or an iterable of bytes;
                the asyncio client takes asynchronous iterables, too, and reads files, paths and plain
                iterators in a worker thread.
            name: a name from `assign_names`; None to have one assigned.
            prefix: first part of an assigned name.
            content_type: kept with the file.
            metadata: kept with the file.
            size: length of `data`, where it does not say itself; the server can then plan for it.
            request_id: a UUID of the caller's own, to repeat the call after a crash.
            durability: least promise wanted; None for the server's default.
            timeout_s: instead of the client's.
            on_progress: told after every message. The blocking client calls it on another thread when
                there is more than one message.

        Raises:
            NameConflict: the name holds other content.
            UploadInterrupted: the connection broke, and `data` cannot be read again from the start.
            DesClientError: any other failure.
        """
        if name is None and request_id is None:
            request_id = str(uuid.uuid4())
        spec = convert.file_spec(
            name=name,
            prefix=prefix,
            content_type=content_type,
            metadata=metadata,
            durability=durability,
            request_id=request_id,
        )
        timeout_s = calls.timeout(timeout_s, self._timeout_s)
        return convert.put_result(await self._put(spec, data, size, timeout_s, request_id, on_progress))

    async def get(
        self,
        name: str,
        *,
        offset: int = 0,
        limit: int | None = None,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> bytes:
        """Return a file's content, or a part of it.

        >>> await des.get(name)
        b'hello'
        >>> await des.get(name, offset=-2)
        b'lo'

        Args:
            name: which file.
            offset: first byte; negative counts from the end.
            limit: how many bytes at most; None for all up to the end.
            timeout_s: instead of the client's.
            on_progress: told after every message.

        Raises:
            FileMissing: no such file.
            RangeNotSatisfiable: `offset` lies outside the file.
            ChecksumMismatch: the bytes that arrived are not the file's.
        """
        calls.check_limit(limit)
        if limit == 0:
            return calls.nothing(await self.stat(name, timeout_s=timeout_s), offset)
        pieces: list[bytes] = []
        download = Download(name, offset=offset, limit=limit, verify=self._verify)
        await self._receive(download, pieces.append, None, timeout_s, on_progress)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def get_to(
        self,
        name: str,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        offset: int = 0,
        limit: int | None = None,
        fsync: bool = False,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> FileInfo:
        """Write a file's content to a path or into a binary file, in bounded memory.

        At a path, the content appears whole or not at all: it is written beside it and renamed, over
        whatever was there. A binary file is written from where it stands; a failure leaves what came
        before it. The asyncio client writes in a worker thread.

        Args:
            name: which file.
            target: where to.
            offset: first byte; negative counts from the end.
            limit: how many bytes at most, not 0; None for all up to the end.
            fsync: for a path, return only when the disk has it.
            timeout_s: instead of the client's.
            on_progress: told after every message.
        """
        download = Download(name, offset=offset, limit=limit, verify=self._verify)
        writer = self._writer(target)
        try:
            await self._receive(download, None, writer.write, timeout_s, on_progress)
            await writer.commit(fsync=fsync)
        except BaseException:
            writer.discard()
            raise
        return download.file

    async def open(self, name: str, *, buffer_bytes: int = BUFFER_BYTES) -> AsyncFileReader:
        """Open a file for reading and seeking, as `open(path, "rb")` would.

        Costs one call now and one for every `buffer_bytes` read; a seek costs nothing.

        Raises:
            FileMissing: no such file.
        """
        info = await self.stat(name)
        return self._reader(
            info, lambda offset, limit: self.get(name, offset=offset, limit=limit), buffer_bytes
        )

    async def stat(self, name: str, *, timeout_s: float | None = None) -> FileInfo:
        """Return all that is known about a file, without its content.

        Raises:
            FileMissing: no such file.
        """
        answer = await self._call(
            lambda channel: channel.files.StatFile,
            calls.stat_request(name),
            calls.timeout(timeout_s, self._timeout_s),
            road=self._road(name, is_read=True),
        )
        return convert.file_info(answer.file)

    async def exists(self, name: str, *, timeout_s: float | None = None) -> bool:
        """Return whether there is such a file. "I cannot tell" is an error, never False."""
        try:
            await self.stat(name, timeout_s=timeout_s)
        except FileMissing:
            return False
        return True

    async def delete(self, name: str, *, allow_missing: bool = False, timeout_s: float | None = None) -> None:
        """Delete a file: gone for every reader when this returns, and its name is never used again.

        >>> gone = (await des.put(b"to be deleted")).file.name
        >>> await des.delete(gone)
        >>> await des.exists(gone)
        False

        Args:
            name: which file.
            allow_missing: a name that is unknown, or deleted before, is no error.
            timeout_s: instead of the client's.

        Raises:
            FileMissing: no such file, or it was deleted before.
        """
        request = file_service_pb2.DeleteFileRequest(name=calls.text(name), allow_missing=allow_missing)
        try:
            await self._call(
                lambda channel: channel.files.DeleteFile,
                request,
                calls.timeout(timeout_s, self._timeout_s),
                road=self._road(name),
            )
        except FileMissing as failed:
            # An earlier attempt, whose answer was lost, has done it.
            if not (failed.reason == "FILE_DELETED" and failed.attempts > 1):
                raise

    async def assign_names(
        self,
        count: int = 1,
        *,
        prefix: str = "",
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> list[AssignedName]:
        """Reserve names for files to be put later; the same `request_id` gives the same names again."""
        request_id = request_id or str(uuid.uuid4())
        answer = await self._call(
            lambda channel: channel.names.AssignName,
            calls.assign_request(count, prefix, request_id),
            calls.timeout(timeout_s, self._timeout_s),
            request_id,
        )
        return convert.assigned_names(answer)
