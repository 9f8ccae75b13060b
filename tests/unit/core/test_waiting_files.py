"""Files laid out many at once stand where, and as, each alone would."""

import os

import google_crc32c
import pytest

from des.core.sink import JOINED_MAX
from des.core.waiting_files import lay_out_framed, lay_out_v1
from des.format.frame import FRAME_HEADER_SIZE, encode_frame_header
from des.format.index import FLAG_COMPRESSED, FLAG_EXTERNAL
from des.format.name_key import bound_seed, key_of, name_digest

START = 1000


def waiting(sizes):
    """Raw files, a compressed one, and an external one, whose names and metadata differ in length."""
    files = [
        (b"n" * (i + 1), os.urandom(size), b'{"size":%d}' % size, None, 0, 0, size)
        for i, size in enumerate(sizes)
    ]
    return [
        *files,
        (b"packed", b"short", b'{"size":9,"k":1}', 7, FLAG_COMPRESSED, 3, 9),
        (b"outside", b"", b'{"size":5000000000}', 0, FLAG_EXTERNAL, 0, 5_000_000_000),
    ]


@pytest.mark.parametrize("sizes", [[], [0], [5, 0, 70], [JOINED_MAX, 1, JOINED_MAX + 1]])
def test_frames_made_together_are_those_made_one_by_one(sizes):
    files = waiting(sizes)
    laid_out = lay_out_framed(files, START)
    data = b"".join(laid_out.parts)
    at = START
    for file, place in zip(files, laid_out.places, strict=True):
        name, stored, document, crc32c, flags, codec, length = file
        external = flags == FLAG_EXTERNAL
        frame = encode_frame_header(
            name,
            document,
            flags=flags,
            stored_length=len(stored),
            data_crc32c=google_crc32c.value(stored) if crc32c is None else crc32c,
            codec=codec,
            raw_length=0 if external else length,
        )
        frame += stored + name + document
        assert frame == data[at - START : at - START + len(frame)]
        found = tuple(place[field].item() for field in ("start", "data_offset", "data_length", "raw_length"))
        assert found == (
            at,
            0 if external else at + FRAME_HEADER_SIZE,
            length if external else len(stored),
            length,
        )
        assert place["meta_offset"] == at + len(frame) - len(document)
        assert place["meta_length"] == place["proof"] == len(document)
        assert (place["key"].tobytes(), place["slot"]) == (key_of(name_digest(name)), codec)
        at += len(frame)
    assert at - START == len(data)
    assert laid_out.meta == b""


@pytest.mark.parametrize("sizes", [[], [5, 0, 70], [JOINED_MAX, 1]])
def test_bare_files_made_together_are_those_made_one_by_one(sizes):
    files = [file for file in waiting(sizes) if file[4] != FLAG_COMPRESSED]
    laid_out = lay_out_v1(files, START, 11)
    at, meta_at = START, 11
    for (name, stored, document, _, flags, _, length), place in zip(files, laid_out.places, strict=True):
        start = 0 if flags == FLAG_EXTERNAL else at
        found = tuple(place[field].item() for field in ("start", "data_offset", "data_length", "meta_offset"))
        assert found == (start, start, length, meta_at)
        assert place["proof"] == google_crc32c.extend(bound_seed(name_digest(name)), stored)
        at, meta_at = at + len(stored), meta_at + len(document)
    assert b"".join(laid_out.parts) == b"".join(file[1] for file in files)
    assert laid_out.meta == b"".join(file[2] for file in files)
