"""A part's pieces as the file that boto3 hashes and sends."""

import base64
import hashlib
import io

import google_crc32c

from des.storage.parted_upload import Bytes
from des.storage.s3_body import PiecesFile, checksum_of

PIECES: list[Bytes] = [b"abc", bytearray(b"d"), memoryview(b"xefghx")[1:5]]
WHOLE = b"abcdefgh"


def test_a_read_gives_a_piece_however_little_is_asked_for_and_nothing_is_copied() -> None:
    file = PiecesFile(PIECES)
    found = [file.read(1), file.read(100), file.read(), file.read(1)]
    assert found == [b"abc", b"d", b"efgh", b""]
    assert isinstance(found[0], memoryview)
    assert found[0].obj is PIECES[0]


def test_it_says_its_size_and_goes_back_into_the_midst_of_a_piece() -> None:
    file = PiecesFile(PIECES)
    assert file.seek(0, io.SEEK_END) == len(WHOLE)
    assert file.read(1) == b""
    assert file.seek(6) == file.tell() == 6
    assert file.read(1) == b"gh"
    file.seek(0)
    assert b"".join(iter(lambda: file.read(1), b"")) == WHOLE


def test_without_pieces_it_is_empty() -> None:
    file = PiecesFile([])
    assert (file.seek(0, io.SEEK_END), file.read(1)) == (0, b"")


def test_the_checksums_are_those_of_the_whole() -> None:
    crc32c = base64.b64encode(google_crc32c.value(WHOLE).to_bytes(4, "big")).decode()
    md5 = base64.b64encode(hashlib.md5(WHOLE, usedforsecurity=False).digest()).decode()
    assert checksum_of(PIECES, "crc32c") == {"ChecksumCRC32C": crc32c}
    assert checksum_of(PIECES, "md5") == {"ContentMD5": md5}
    assert checksum_of(PIECES, "when_required") == {}
