"""Shipped segments: what goes in comes out, and nothing else is believed."""

import random
from uuid import UUID

import google_crc32c
import pytest

from des.ingest.shipped import (
    ShippedFile,
    ShippedSegmentError,
    decode_shipped,
    encode_shipped,
    shipped_key,
    shipped_size,
)
from des.ingest.values import Extent, OpenFile

NODE = UUID(int=5)
PLACE = {"node": NODE, "boot_epoch": 3, "number": 26}


def open_file(name, data, *, seq, blocks=(), external=False, facts=b""):
    """A file as the log has it: bytes in its record, in blocks, or in the object store."""
    return OpenFile(
        name=name,
        day=20260228,
        shard=7,
        seq=seq,
        time_ms=1,
        size=len(data),
        crc32c=google_crc32c.value(data),
        facts=facts,
        segment=4,
        offset=64 if data and not blocks and not external else 0,
        blocks=blocks,
    )


def some_files():
    rng = random.Random(2)
    small, long, big = rng.randbytes(300), rng.randbytes(2500), rng.randbytes(9)
    pieces = [long[:1000], long[1000:2000], long[2000:]]
    blocks = tuple(Extent(4, 9, len(piece), google_crc32c.value(piece)) for piece in pieces)
    return [
        (open_file("small", small, seq=1000, facts=b"{}"), [small]),
        (open_file("empty", b"", seq=1003), []),
        (open_file("long", long, seq=1004, blocks=blocks), pieces),
        (open_file("big", big, seq=1009, external=True, facts=b'{"external":1}'), []),
    ]


def segment():
    return encode_shipped(some_files(), salt=0xC0FFEE, time_ms=9, **PLACE)


def test_files_come_back_as_they_went():
    assert decode_shipped(segment(), **PLACE) == [
        ShippedFile(
            file.name,
            file.day,
            file.shard,
            file.size,
            file.crc32c,
            file.facts,
            None if file.name == "big" else tuple(pieces),
        )
        for file, pieces in some_files()
    ]


def test_the_first_bytes_are_those_of_a_log_segment():
    # docs/log.md, section 2, worked example: the same header.
    assert segment()[:60] == bytes.fromhex(
        "4445534c4f473031"
        "0100"
        "0000"
        "00000000"
        "00000000000000000000000000000005"
        "0300000000000000"
        "1a00000000000000"
        "e803000000000000"
        "eeffc000"
    )


def test_any_flipped_bit_is_refused():
    whole = segment()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(ShippedSegmentError):
            decode_shipped(bytes(damaged), **PLACE)


def test_any_part_of_a_segment_is_refused():
    whole = segment()
    for stop in range(len(whole)):
        with pytest.raises(ShippedSegmentError):
            decode_shipped(whole[:stop], **PLACE)
    with pytest.raises(ShippedSegmentError, match="1 bytes stand behind"):
        decode_shipped(whole + b"\0", **PLACE)


@pytest.mark.parametrize("other", [{"node": UUID(int=6)}, {"boot_epoch": 4}, {"number": 27}])
def test_another_segment_is_refused(other):
    with pytest.raises(ShippedSegmentError, match="says segment 26 of node .*, start 3"):
        decode_shipped(segment(), **PLACE | other)


def test_the_size_is_foreseen():
    files = some_files()
    foreseen = sum(shipped_size(file) for file, _ in files)
    assert abs(foreseen - len(segment())) < 0.1 * len(segment())


def test_keys_are_in_one_folder_per_node_and_start():
    assert (
        shipped_key("/des/", node=NODE, boot_epoch=3, number=26) == f"des/_log/{NODE}/00000003/0000001a.dlog"
    )
