"""Damage in a container with EXT is found, or does no harm: never other bytes, never a false "not there"."""

import io
from dataclasses import replace

import google_crc32c
import pytest

from des.core import DesReader, DesWriter, S3DesReader
from des.errors import CorruptError, DisabledError
from des.format.block_crc import BlockCrc, scrub
from des.format.errors import CorruptContainerError, UnsupportedContainerError
from des.format.ext import open_end, read_section
from des.format.ext_trailer import TRAILER_SIZE
from des.format.footer import FOOTER_SIZE
from des.format.fuse_filter import FuseFilter
from des.format.layout import Layout
from des.format.plan import run
from des.format.section_table import SectionKind
from des.format.stats import Stats
from des.format.system_metadata import SystemMetadata
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import NoSuchObjectError
from des.testing.object_store_suite import put

FILES = {"first": b"the first file", "empty": b"", "żółw": b"\x00\xff" * 20, "last": b"z"}
OUTSIDE = {"big/outside": b"bytes outside"}
TRAILER_FROM_END = TRAILER_SIZE + FOOTER_SIZE


def container(layout):
    target = io.BytesIO()
    with DesWriter(target, layout=layout, digest=True) as writer:
        for name, data in FILES.items():
            writer.add_file(name, data, metadata={"of": name})
        [(key, data)] = OUTSIDE.items()
        system = SystemMetadata(crc32c=google_crc32c.value(data))
        writer.add_external("outside", size=len(data), external_key=key, system=system)
    return target.getvalue()


def sliced(data):
    return lambda wanted: data[wanted.start : wanted.stop]


EXPECTED = {**FILES, "outside": OUTSIDE["big/outside"]}
USER = {**{name: {"of": name} for name in FILES}, "outside": {}}


def scrubbed(data):
    """Read every section, and every block before EXT."""
    opened = run(open_end(len(data)), sliced(data))
    if opened.ext is None:
        return
    for section in opened.ext.sections:
        found = run(read_section(section), sliced(data))
        if section.kind == SectionKind.BLOCKCRC:
            start = opened.ext.trailer.ext_start
            run(scrub(BlockCrc.decode(found, section, start), start), sliced(data))
        elif section.kind == SectionKind.STATS:
            Stats.decode(found)
        elif section.kind == SectionKind.FILTER:
            FuseFilter.decode(found)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_any_damaged_byte_is_found_or_does_no_harm(layout, mask, tmp_path):
    """Each file reads right or fails as corrupt; metadata too; no name is denied; scrubbing sees it."""
    sound = container(layout)
    page = run(open_end(len(sound)), sliced(sound)).ext.section(SectionKind.HASHPAGES)
    zeros = range(page.start + 28 + 32 * len(EXPECTED), page.stop - 4)
    # The page's unused room behaves alike everywhere, and is gone through in the slow lane.
    check_damage(sound, [at for at in range(len(sound)) if at not in zeros or at % 97 == 0], mask, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("layout", Layout)
def test_any_damaged_byte_at_all_is_found_or_does_no_harm(layout, tmp_path):
    sound = container(layout)
    for mask in (0x01, 0x80, 0xFF):
        check_damage(sound, range(len(sound)), mask, tmp_path)


def check_damage(sound, places, mask, tmp_path):
    path = tmp_path / "c.des"
    magic = range(len(sound) - TRAILER_FROM_END, len(sound) - TRAILER_FROM_END + 8)
    for place in places:
        damaged = bytearray(sound)
        damaged[place] ^= mask
        path.write_bytes(damaged)
        noticed = False
        try:
            scrubbed(bytes(damaged))
        except (CorruptError, DisabledError):
            noticed = True
        # Without its magic EXT is not there, and INDEX, which is whole, serves.
        assert noticed is (place not in magic), place
        try:
            with DesReader(path, external=OUTSIDE.__getitem__) as reader:
                for name, expected in EXPECTED.items():
                    try:
                        assert reader.get_file(name) == expected, place
                        assert reader.get_meta(name).user == USER[name], place
                    except (CorruptError, DisabledError, KeyError):
                        pass
                assert "absent" not in reader
                try:
                    assert reader.list_files() == sorted(EXPECTED), place
                    assert [stored.name for stored in reader] == list(EXPECTED), place
                    assert len(reader.index) == len(EXPECTED)
                except (CorruptError, DisabledError):
                    pass
        except (CorruptError, DisabledError):
            continue


@pytest.mark.parametrize("layout", Layout)
def test_a_container_cut_anywhere_is_corrupt(layout, tmp_path):
    sound = container(layout)
    path = tmp_path / "c.des"
    for size in range(len(sound)):
        path.write_bytes(sound[:size])
        with pytest.raises(CorruptContainerError):
            DesReader(path)


@pytest.mark.parametrize("layout", Layout)
async def test_damage_is_found_through_the_object_store_too(layout):
    sound = container(layout)
    for place in range(0, len(sound), 29):
        damaged = bytearray(sound)
        damaged[place] ^= 0x40
        store = MemoryObjectStore()
        await put(store, "c.des", bytes(damaged))
        await put(store, "big/outside", OUTSIDE["big/outside"])
        reader = S3DesReader(store, "c.des")
        for name, expected in EXPECTED.items():
            try:
                assert await reader.get_file(name) == expected
                assert (await reader.get_meta(name)).user == USER[name]
            except (CorruptError, DisabledError, NoSuchObjectError):
                pass


# --- made by hand, with right checksums ---------------------------------------------------------


def with_trailer(sound, **changes):
    """The container with other values in its trailer, sealed anew."""
    opened = run(open_end(len(sound)), sliced(sound))
    trailer = replace(opened.ext.trailer, **changes).encode()
    return sound[:-TRAILER_FROM_END] + trailer + sound[-FOOTER_SIZE:]


def with_section(sound, changed_kind, **changes):
    """The container with another entry in its section table, sealed anew."""
    opened = run(open_end(len(sound)), sliced(sound))
    table = b"".join(
        (replace(section, **changes) if section.kind == changed_kind else section).encode()
        for section in opened.ext.sections
    )
    changed = sound[: opened.ext.trailer.table_start] + table + sound[-TRAILER_FROM_END:]
    trailer = replace(opened.ext.trailer, table_crc32c=google_crc32c.value(table)).encode()
    return changed[:-TRAILER_FROM_END] + trailer + sound[-FOOTER_SIZE:]


def opened_with(data, tmp_path):
    path = tmp_path / "c.des"
    path.write_bytes(data)
    with DesReader(path) as reader:
        return reader.get_file("first"), reader.list_files()


@pytest.mark.parametrize("bit", range(32))
def test_an_unknown_needed_feature_is_refused_and_others_are_not(bit, tmp_path):
    sound = container(Layout.FRAMED)
    data = with_trailer(sound, features=1 | 1 << bit)
    if 2 <= bit < 16:
        with pytest.raises(UnsupportedContainerError, match="features"):
            opened_with(data, tmp_path)
    else:
        assert opened_with(data, tmp_path)[0] == FILES["first"]


def test_a_layout_that_ext_contradicts_is_refused(tmp_path):
    for layout, features in ((Layout.FRAMED, 0), (Layout.V1, 1)):
        with pytest.raises(CorruptContainerError, match="features"):
            opened_with(with_trailer(container(layout), features=features), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"ext_start": 16},
        {"ext_start": 1 << 63},
        {"table_start": 16},
        {"table_start": (1 << 64) - 1},
        {"section_count": 0},
        {"section_count": 65},
        {"section_count": (1 << 32) - 1},
        {"table_crc32c": 7},
        {"footer_crc32c": 7},
    ],
)
def test_a_trailer_that_lies_is_refused(changes, tmp_path):
    with pytest.raises(CorruptContainerError):
        opened_with(with_trailer(container(Layout.FRAMED), **changes), tmp_path)


@pytest.mark.parametrize("kind", [1, 4, 5])
@pytest.mark.parametrize(
    "changes",
    [
        {"start": 0},
        {"start": (1 << 64) - 1},
        {"length": (1 << 64) - 1},
        {"length": 0},
        {"length": 1},
        {"count": 0},
        {"count": (1 << 64) - 1},
        {"param": 0},
        {"param": (1 << 32) - 1},
    ],
)
@pytest.mark.parametrize("layout", Layout)
def test_a_section_table_that_lies_is_refused_or_not_believed(kind, changes, layout, tmp_path):
    sound = container(layout)
    try:
        data, names = opened_with(with_section(sound, kind, **changes), tmp_path)
    except (CorruptContainerError, UnsupportedContainerError):
        return
    assert data == FILES["first"]
    assert names in ([], sorted(EXPECTED))


def test_an_unknown_section_is_skipped(tmp_path):
    for kind in (SectionKind.STATS, SectionKind.FILTER, SectionKind.NAMES, SectionKind.HASHPAGES):
        data = with_section(container(Layout.FRAMED), kind, kind=4711)
        assert opened_with(data, tmp_path) == (FILES["first"], sorted(EXPECTED))


def test_a_name_that_ends_like_a_trailer_is_no_trailer(tmp_path):
    """INDEX of a plain container may end with any name, and so with the magic in the trailer's place."""
    path = tmp_path / "c.des"
    with DesWriter(path, layout="v1", ext=False) as writer:
        writer.add_file("DESXTRL1" + "x" * 20, b"one")
    with DesReader(path) as reader:
        assert reader.ext is None
        assert reader.get_file("DESXTRL1" + "x" * 20) == b"one"
