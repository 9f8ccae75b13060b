"""Bytes on their way to S3: a body as a file that may be read again, and its checksum."""

import base64
import hashlib
import io
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import google_crc32c
import numpy as np

from des.storage.object_store import Body, ObjectDamagedError
from des.storage.parted_upload import Bytes

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


class PiecesFile(io.RawIOBase):
    """Pieces that lie where they lie, as the seekable file that boto3 hashes and sends, and sends again.

    `read` returns what is left of a piece however little is asked for: HTTP asks for 16 KiB, and each time
    waits for the interpreter, which whoever builds the next part holds.
    """

    def __init__(self, pieces: Sequence[Bytes]) -> None:
        super().__init__()
        self._pieces: Final = [memoryview(piece) for piece in pieces]
        self._starts: Final = [0, *accumulate(map(len, self._pieces))]
        self._place = 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be rewound."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; botocore looks for the size by going to the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._starts[-1]}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        """Return where the next read starts."""
        return self._place

    def read(self, _size: int = -1) -> memoryview | bytes:
        """Return the rest of the piece that the place is in; nothing at the end."""
        if self._place >= self._starts[-1]:
            return b""
        number = bisect_right(self._starts, self._place) - 1
        data = self._pieces[number][self._place - self._starts[number] :]
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


def checksum_of(pieces: Sequence[Bytes], algorithm: str) -> Mapping[str, Any]:
    """Return what `upload_part` takes as the checksum of `pieces`, one behind the other."""
    if algorithm == "crc32c":
        return {"ChecksumCRC32C": encode_crc32c(crc32c_of(pieces))}
    if algorithm == "md5":
        md5 = hashlib.md5(usedforsecurity=False)
        for piece in pieces:
            md5.update(piece)
        return {"ContentMD5": base64.b64encode(md5.digest()).decode()}
    return {}


def crc32c_of(pieces: Sequence[Bytes]) -> int:
    """Return the CRC32C of `pieces`, one behind the other."""
    crc = 0
    for piece in pieces:
        # It takes bytes and arrays, of which an array of the same memory is no copy.
        crc = google_crc32c.extend(crc, piece if isinstance(piece, bytes) else np.frombuffer(piece, np.uint8))
    return crc


def encode_crc32c(value: int) -> str:
    """Return a CRC32C as S3 writes it.

    >>> encode_crc32c(0xE3069283)
    '4waSgw=='
    """
    return base64.b64encode(value.to_bytes(4, "big")).decode()
