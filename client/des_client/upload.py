"""The messages of an upload: one for a small file, a stream for the others. No I/O in here."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

from des_proto.v1 import file_service_pb2, types_pb2

from des_client import checksum
from des_client.errors import InvalidArgument
from des_client.types import Limits

CHUNK_BYTES_DEFAULT: Final = 1 << 20
"""Data per message while the server's limits are not known."""


def chunk_bytes(limits: Limits) -> int:
    """Choose how much data to put into a message."""
    preferred = limits.preferred_chunk_bytes or CHUNK_BYTES_DEFAULT
    return min(preferred, limits.max_chunk_bytes or preferred)


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
    """One attempt to send a file in several messages, in order."""

    __slots__ = ("_crc", "_spec", "_with_checksums", "built", "size")

    def __init__(self, spec: file_service_pb2.FileSpec, size: int | None, *, with_checksums: bool) -> None:
        self._spec = spec
        if size is not None:
            spec.size_bytes = size
        self.size = size
        """Length of the file; None while unknown."""
        self._with_checksums = with_checksums
        self.built = 0
        """Bytes of the file in the messages built so far."""
        self._crc = 0

    def message(self, chunk: bytes, *, last: bool) -> file_service_pb2.PutFileRequest:
        """Build the next message. The last one carries the checksum of the whole file.

        Raises:
            InvalidArgument: the source held more or fewer bytes than it was said to.
        """
        message = file_service_pb2.PutFileRequest(write_offset=self.built, finish=last)
        if self.built == 0:
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
        return message

    def messages(self, chunks: Iterator[bytes]) -> Iterator[file_service_pb2.PutFileRequest]:
        """Build all messages, one chunk behind the source so that the last one is known as such."""
        held = next(chunks, b"")
        for following in chunks:
            yield self.message(held, last=False)
            held = following
        yield self.message(held, last=True)

    async def messages_async(
        self, chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[file_service_pb2.PutFileRequest]:
        """Build all messages, as `messages` does."""
        held = await anext(chunks, b"")
        async for following in chunks:
            yield self.message(held, last=False)
            held = following
        yield self.message(held, last=True)
