"""What a client says about the bytes it sends, compared with what arrived."""

from dataclasses import dataclass
from typing import Final

import google_crc32c
from des_proto.v1 import types_pb2

from des.errors import InvalidInputError
from des.node.write_rules import UploadChecksumMismatchError
from des_server.errors import MessageTooLargeError

_SHA256_SIZE: Final = 32


@dataclass(slots=True)
class Claims:
    """What the client says the whole file's digests are, from the first or the last message."""

    crc32c: int | None = None
    sha256: bytes | None = None

    def add(self, checksums: types_pb2.Checksums) -> None:
        """Take what a message claims.

        Raises:
            InvalidInputError: a digest of the wrong length, or another one than claimed before.
        """
        if checksums.HasField("crc32c"):
            if self.crc32c not in {None, checksums.crc32c}:
                raise InvalidInputError(
                    f"crc32c is {checksums.crc32c:08x}, the first message said {self.crc32c:08x}",
                    field="checksums.crc32c",
                )
            self.crc32c = checksums.crc32c
        if sha256 := checksums.sha256:
            if len(sha256) != _SHA256_SIZE:
                raise InvalidInputError(
                    f"sha256 has {len(sha256)} bytes, expected {_SHA256_SIZE}", field="checksums.sha256"
                )
            if self.sha256 not in {None, sha256}:
                raise InvalidInputError("sha256 differs from the first message's", field="checksums.sha256")
            self.sha256 = sha256


def check_chunk(chunk: types_pb2.DataChunk, bytes_max: int) -> tuple[bytes, int]:
    """Return a chunk's data and their CRC32C.

    Raises:
        MessageTooLargeError: more than `bytes_max` bytes.
        UploadChecksumMismatchError: they are not those the client summed.
    """
    data = chunk.data
    if len(data) > bytes_max:
        raise MessageTooLargeError(
            f"the chunk has {len(data)} bytes, at most {bytes_max} are allowed",
            size=len(data),
            max_size=int(bytes_max),
        )
    crc32c: int = google_crc32c.value(data)
    if chunk.HasField("crc32c"):
        check_crc32c(chunk.crc32c, crc32c, scope="chunk")
    return data, crc32c


def check_crc32c(expected: int, actual: int, *, scope: str) -> None:
    """Demand the checksum that the client computed, over a "chunk" or a "file".

    Raises:
        UploadChecksumMismatchError: it is another one.
    """
    if expected != actual:
        raise UploadChecksumMismatchError(
            f"the {scope}'s CRC32C is {actual:08x}, the client computed {expected:08x}",
            expected=f"{expected:08x}",
            actual=f"{actual:08x}",
            scope=scope,
        )


def check_sha256(expected: bytes, actual: bytes) -> None:
    """Demand the digest that the client computed over the file.

    Raises:
        UploadChecksumMismatchError: it is another one.
    """
    if expected != actual:
        raise UploadChecksumMismatchError(
            f"the file's SHA-256 is {actual.hex()}, the client computed {expected.hex()}",
            expected=expected.hex(),
            actual=actual.hex(),
            scope="file",
        )
