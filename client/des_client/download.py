"""What has arrived of a file, whether it is right, and where to go on. No I/O in here."""

from des_proto.v1 import file_service_pb2, types_pb2

from des_client import checksum, convert
from des_client.errors import ChecksumMismatch, DataLoss, Internal, Unavailable
from des_client.items import check_range
from des_client.types import FileInfo


class Download:
    """One file, or a range of it, over as many attempts as it takes.

    Each attempt sends `request()`, passes every answer to `accept()` and the end of the stream to
    `end()`. A new attempt continues where the last one stopped.
    """

    __slots__ = (
        "_file",
        "_first",
        "_verify",
        "crc",
        "limit",
        "name",
        "offset",
        "received",
        "start",
        "stop",
    )

    def __init__(self, name: str, *, offset: int = 0, limit: int | None = None, verify: bool = True) -> None:
        check_range(offset, limit)
        self.name = name
        self.offset = offset
        """Where the range starts, as asked for; negative counts from the end."""
        self.limit = limit
        self.received = 0
        """Bytes accepted so far, all attempts together."""
        self.start = 0
        """First byte of the range, once the server said so."""
        self.stop: int | None = None
        """One past the last byte; None until the first answer."""
        self.crc = 0
        self._file: types_pb2.FileInfo | None = None
        self._verify = verify
        self._first = True

    @property
    def complete(self) -> bool:
        """Whether every byte has arrived."""
        return self.stop is not None and self.start + self.received == self.stop

    @property
    def total_bytes(self) -> int | None:
        """Length of the range; None while unknown."""
        return None if self.stop is None else self.stop - self.start

    @property
    def file(self) -> FileInfo:
        """What the server said about the file."""
        if self._file is None:
            raise Internal(f"no answer about {self.name!r} yet")
        return convert.file_info(self._file)

    @property
    def described(self) -> types_pb2.FileInfo | None:
        """What the server said about the file, in its own words; None before it did."""
        return self._file

    def request(self) -> file_service_pb2.GetFileRequest:
        """Build the next attempt's request: the bytes that are still missing."""
        self._first = True
        try:
            request = file_service_pb2.GetFileRequest(name=self.name)
        except UnicodeEncodeError as failed:
            raise convert.not_unicode(failed) from None
        if self.received and self.stop is not None:
            request.range.offset = self.start + self.received
            request.range.limit = self.stop - self.start - self.received
        elif self.offset or self.limit is not None:
            request.range.offset = self.offset
            request.range.limit = self.limit or 0
        return request

    def accept(self, response: file_service_pb2.GetFileResponse) -> bytes:
        """Check one answer and return its bytes; empty ones are signs of life.

        Raises:
            ChecksumMismatch: the chunk is not what the server sent.
            DataLoss: a later attempt found another file, or the whole file has another checksum.
            Internal: the answer breaks the protocol.
        """
        if self._first:
            self._first = False
            self._accept_first(response)
        chunk = response.chunk
        data = chunk.data
        if not data:
            return data
        if self._verify:
            crc = checksum.crc32c(data)
            if chunk.HasField("crc32c") and chunk.crc32c != crc:
                raise ChecksumMismatch(
                    f"{self.name!r}: CRC32C of {len(data)} bytes at {self.start + self.received} is "
                    f"{crc:08x}, expected {chunk.crc32c:08x}",
                    metadata={"expected": str(chunk.crc32c), "actual": str(crc), "scope": "chunk"},
                )
            self.crc = checksum.extend(self.crc, data) if self.received else crc
        self.received += len(data)
        if self.stop is None or self.start + self.received > self.stop:
            raise Internal(f"{self.name!r}: the server sent bytes past {self.stop}, where its range ends")
        if self.start + self.received == self.stop:
            self._check_whole()
        return data

    def _accept_first(self, response: file_service_pb2.GetFileResponse) -> None:
        if not (response.HasField("file") and response.HasField("content_range")):
            raise Internal(f"{self.name!r}: the first answer lacks file or content_range")
        file, found = response.file, response.content_range
        if self._file is None:
            if not 0 <= found.start <= found.end <= found.total_size == file.size_bytes:
                raise Internal(
                    f"{self.name!r}: range {found.start} to {found.end} of {found.total_size}, "
                    f"file of {file.size_bytes} bytes"
                )
            self._file = file
            self.start, self.stop = found.start, found.end
            if self.start == self.stop:
                self._check_whole()
            return
        known = self._file
        if (file.size_bytes, file.checksums.crc32c) != (known.size_bytes, known.checksums.crc32c):
            raise DataLoss(
                f"{self.name!r}: resumed at {self.start + self.received} and found a file of "
                f"{file.size_bytes} bytes with CRC32C {file.checksums.crc32c:08x}, expected "
                f"{known.size_bytes} bytes with {known.checksums.crc32c:08x}"
            )
        if (found.start, found.end) != (self.start + self.received, self.stop):
            raise Internal(
                f"{self.name!r}: asked for {self.start + self.received} to {self.stop}, "
                f"given {found.start} to {found.end}"
            )

    def _check_whole(self) -> None:
        file = self._file
        if not self._verify or file is None or not file.checksums.HasField("crc32c"):
            return
        if self.received == file.size_bytes and self.crc != file.checksums.crc32c:
            raise ChecksumMismatch(
                f"{self.name!r}: CRC32C of the file is {self.crc:08x}, expected {file.checksums.crc32c:08x}",
                metadata={
                    "expected": str(file.checksums.crc32c),
                    "actual": str(self.crc),
                    "scope": "file",
                },
            )

    def end(self) -> None:
        """Check that the stream ended where the range does.

        Raises:
            Unavailable: it ended early; the rest may be asked for again.
        """
        if not self.complete:
            raise Unavailable(
                f"{self.name!r}: the stream ended after {self.received} of "
                f"{'unknown' if self.stop is None else self.stop - self.start} bytes"
            )
