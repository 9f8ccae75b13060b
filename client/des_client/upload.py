"""The messages of an upload: one for a small file, a stream for the others. No I/O in here."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

from des_proto.v1 import file_service_pb2, types_pb2

from des_client import checksum
from des_client.errors import Internal, InvalidArgument
from des_client.types import Limits, ServerInfo

CHUNK_BYTES_DEFAULT: Final = 1 << 20
"""Data per message while the server's limits are not known."""

RESUMABLE_BYTES_MIN: Final = 8 << 20
"""Below this, sending a file again costs less than the calls that would spare it."""

RESUMABLE: Final = "resumable_uploads"
"""The feature of servers that keep the beginning of an upload that broke."""


def chunk_bytes(limits: Limits) -> int:
    """Choose how much data to put into a message."""
    preferred = limits.preferred_chunk_bytes or CHUNK_BYTES_DEFAULT
    return min(preferred, limits.max_chunk_bytes or preferred)


def is_resumable(info: ServerInfo | None, size: int | None, *, rereadable: bool) -> bool:
    """Decide whether an upload is worth keeping at the server while it is not finished."""
    return (
        info is not None
        and RESUMABLE in info.features
        and rereadable
        and size is not None
        and size >= RESUMABLE_BYTES_MIN
    )


def whole(
    spec: file_service_pb2.FileSpec, content: bytes, *, with_checksums: bool
) -> file_service_pb2.PutFileRequest:
    """Build the only message of a small file."""
    spec.size_bytes = len(content)
    if not with_checksums:
        return file_service_pb2.PutFileRequest(
            spec=spec, chunk=types_pb2.DataChunk(data=content), finish=True
        )
    crc = checksum.crc32c(content)
    return file_service_pb2.PutFileRequest(
        spec=spec,
        chunk=types_pb2.DataChunk(data=content, crc32c=crc),
        checksums=types_pb2.Checksums(crc32c=crc),
        finish=True,
    )


class Upload:
    """A file in several messages, in order, over as many attempts as it takes.

    An attempt begins with `restart`, or with `resume` where the server kept a part of the last one.
    """

    __slots__ = (
        "_crc",
        "_first",
        "_marks",
        "_skip",
        "_spec",
        "_with_checksums",
        "built",
        "size",
        "upload_id",
    )

    def __init__(self, spec: file_service_pb2.FileSpec, size: int | None, *, with_checksums: bool) -> None:
        self._spec = spec
        if size is not None:
            spec.size_bytes = size
        self.size = size
        """Length of the file; None while unknown."""
        self._with_checksums = with_checksums
        self.upload_id = ""
        """What the server calls a resumable upload; empty for one that starts again at byte 0."""
        self.built = 0
        """Bytes of the file in the messages built so far."""
        self._crc = 0
        self._first = True
        self._skip = 0
        self._marks = {0: 0}
        """CRC32C of everything before an offset, for the ends of the messages built."""

    def restart(self) -> None:
        """Begin an attempt at the first byte."""
        self.built = self._crc = self._skip = 0
        self._marks = {0: 0}
        self._first = True

    def resume(self, persisted: int) -> int:
        """Begin an attempt at byte `persisted`; return where the source is to be read from.

        That is a little earlier where `persisted` is no message's end: the checksum of what lies before
        it has to be known.
        """
        if persisted < 0 or (self.size is not None and persisted > self.size):
            raise Internal(f"the server keeps {persisted} bytes of an upload of {self.size}")
        start = max(mark for mark in self._marks if mark <= persisted)
        self.built = start
        self._crc = self._marks[start]
        self._skip = persisted - start
        self._first = True
        return start

    def message(self, chunk: bytes, *, last: bool) -> file_service_pb2.PutFileRequest:
        """Build the next message. The last one carries the checksum of the whole file.

        Raises:
            InvalidArgument: the source held more or fewer bytes than it was said to.
        """
        message = file_service_pb2.PutFileRequest(write_offset=self.built, finish=last)
        if self._first:
            self._first = False
            if self.upload_id:
                message.upload_id = self.upload_id
            else:
                message.spec.CopyFrom(self._spec)
        message.chunk.data = chunk
        self.built += len(chunk)
        size = self.size
        if size is not None and (self.built > size or (last and self.built != size)):
            raise InvalidArgument(
                f"the source gave {'at least ' * (not last)}{self.built} bytes, expected {size}",
                reason="UPLOAD_SIZE_MISMATCH",
                metadata={"expected": str(size), "actual": str(self.built)},
            )
        if self._with_checksums:
            message.chunk.crc32c = checksum.crc32c(chunk)
            self._crc = checksum.extend(self._crc, chunk)
            if last:
                message.checksums.crc32c = self._crc
        if self.upload_id:
            self._marks[self.built] = self._crc
        return message

    def _unsent(self, chunk: bytes) -> bytes:
        """Leave out of a chunk what the server has."""
        if not self._skip:
            return chunk
        known, rest = chunk[: self._skip], chunk[self._skip :]
        self._skip -= len(known)
        self.built += len(known)
        if self._with_checksums:
            self._crc = checksum.extend(self._crc, known)
        return rest

    def messages(self, chunks: Iterator[bytes]) -> Iterator[file_service_pb2.PutFileRequest]:
        """Build all messages, one chunk behind the source so that the last one is known as such."""
        held = self._unsent(next(chunks, b""))
        for chunk in chunks:
            following = self._unsent(chunk)
            if held:
                yield self.message(held, last=False)
            held = following
        yield self.message(held, last=True)

    async def messages_async(
        self, chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[file_service_pb2.PutFileRequest]:
        """Build all messages, as `messages` does."""
        held = self._unsent(await anext(chunks, b""))
        async for chunk in chunks:
            following = self._unsent(chunk)
            if held:
                yield self.message(held, last=False)
            held = following
        yield self.message(held, last=True)
