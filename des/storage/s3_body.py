"""Bytes on their way to S3: a body as a file that may be read again, and its checksum."""

import base64
import hashlib
import io
from collections.abc import Mapping
from typing import Any, Final

import google_crc32c

from des.storage.object_store import Body, ObjectDamagedError

READ_SIZE: Final = 1 << 20


class BodyFile(io.RawIOBase):
    """A body as the seekable file that boto3 sends, and sends again when it has to."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self._body = body
        self._size: Final = body.size()
        self._place = 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be rewound."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; botocore looks for the size by going to the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        """Return where the next read starts."""
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        left = max(0, self._size - self._place)
        data = self._body.pread(left if size < 0 else min(size, left), self._place) if left else b""
        self._place += len(data)
        return data


def checksum_of_body(body: Body, key: str, algorithm: str) -> Mapping[str, Any]:
    """Read a body once, and return what `put_object` takes as its checksum.

    Raises:
        ObjectDamagedError: the body ends before its own size.
    """
    crc = 0
    md5 = hashlib.md5(usedforsecurity=False) if algorithm == "md5" else None
    size = body.size()
    offset = 0
    while offset < size:
        data = body.pread(min(READ_SIZE, size - offset), offset)
        if not data:
            raise ObjectDamagedError(f"body of {key!r} ends at {offset}, its size is {size}")
        if md5 is None:
            crc = google_crc32c.extend(crc, data)
        else:
            md5.update(data)
        offset += len(data)
    if algorithm == "crc32c":
        return {"ChecksumCRC32C": encode_crc32c(crc)}
    return {"ContentMD5": base64.b64encode(md5.digest()).decode()} if md5 is not None else {}


def checksum_of(data: bytes, algorithm: str) -> Mapping[str, Any]:
    """Return what `upload_part` takes as the checksum of `data`."""
    if algorithm == "crc32c":
        return {"ChecksumCRC32C": encode_crc32c(google_crc32c.value(data))}
    if algorithm == "md5":
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        return {"ContentMD5": base64.b64encode(digest).decode()}
    return {}


def encode_crc32c(value: int) -> str:
    """Return a CRC32C as S3 writes it.

    >>> encode_crc32c(0xE3069283)
    '4waSgw=='
    """
    return base64.b64encode(value.to_bytes(4, "big")).decode()
