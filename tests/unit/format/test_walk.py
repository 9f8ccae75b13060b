"""A container that lost its tail gives back every file whose frame is whole."""

import io

import pytest

from des.core import DesWriter
from des.format.footer import FOOTER_SIZE, Footer
from des.format.plan import run
from des.format.walk import walk_frames


def sample():
    target = io.BytesIO()
    with DesWriter(target) as writer:
        writer.add_file("a", b"one" * 10)
        writer.add_file("empty", b"", metadata={"k": "v"})
        writer.add_external("outside", size=1 << 40, external_key="k")
        writer.add_file("ż", b"DXF1" * 20)
    return target.getvalue(), list(writer.index)


def walk(data):
    return run(walk_frames(len(data)), lambda wanted: data[wanted.start : wanted.stop])


def test_frames_give_the_index_back():
    container, entries = sample()
    found = walk(container)
    assert (entries, Footer.decode(container[-FOOTER_SIZE:]).data_stop) == (found.entries, found.stop)


def test_a_cut_loses_the_cut_frame_only():
    container, entries = sample()
    for size in range(len(container)):
        whole = [entry for entry in entries if entry.meta_offset + entry.meta_length <= size]
        assert walk(container[:size]).entries == whole


@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_a_damaged_frame_ends_the_walk(mask):
    container, entries = sample()
    for place in range(16, Footer.decode(container[-FOOTER_SIZE:]).data_stop):
        damaged = bytearray(container)
        damaged[place] ^= mask
        before = [entry for entry in entries if entry.meta_offset + entry.meta_length <= place]
        assert walk(bytes(damaged)).entries == before, place
