"""Sections of EXT made by hand, every checksum right: a typed error or the right answer, in little memory."""

import io
import tracemalloc

import google_crc32c
import numpy as np
import pytest
import zstandard

from des.core import DesReader, DesWriter, S3DesReader
from des.errors import DesError
from des.format.ext import NewSection, encode_ext, open_end
from des.format.footer import FOOTER_SIZE
from des.format.fuse_filter import SEGMENT_LENGTH_MAX
from des.format.hash_pages import LENGTH_CHECK_INDEX, OFFSET_MAX, encode_record
from des.format.index_directory import GROUP_SIZE
from des.format.layout import Layout
from des.format.name_key import key_of, name_digest
from des.format.page_plan import plan_pages
from des.format.plan import run
from des.format.section_table import SectionKind
from des.storage.memory import MemoryObjectStore
from des.testing.object_store_suite import put

FILES = {f"name{i:03d}": b"%d" % i for i in range(130)}
MEMORY_MAX = 4 << 20
"""Far above what reading the sound container takes, far below what any of these asks for."""


def container(layout):
    target = io.BytesIO()
    with DesWriter(target, layout=layout) as writer:
        for name, data in FILES.items():
            writer.add_file(name, data)
    return target.getvalue()


def with_sections(sound, *changed):
    """The container with other sections in place of those of their kinds, sealed anew."""

    def read(wanted):
        return sound[wanted.start : wanted.stop]

    opened = run(open_end(len(sound)), read)
    kinds = {section.kind for section in changed}
    kept = [
        NewSection(
            SectionKind(one.kind), [sound[one.start : one.stop]], one.count, one.param, one.codec, one.flags
        )
        for one in opened.ext.sections
        if one.kind not in kinds
    ]
    parts = encode_ext(
        [*kept, *changed],
        footer=opened.footer,
        uuid=opened.ext.uuid,
        features=opened.ext.trailer.features,
    )
    return sound[: opened.footer.index_stop] + b"".join(parts) + sound[-FOOTER_SIZE:]


def zstd(data):
    return zstandard.ZstdCompressor(level=3, write_checksum=False, write_content_size=True).compress(data)


def names_section(blocks, firsts, count):
    """NAMES of encoded blocks and an encoded list of their first names."""
    packed = [zstd(block) for block in blocks]
    lengths = [len(one) for one in packed]
    sums = [google_crc32c.value(one) for one in packed]
    directory = zstd(np.array([lengths, sums], "<u4").tobytes() + firsts)
    directory += google_crc32c.value(directory).to_bytes(4, "little")
    return NewSection(SectionKind.NAMES, [*packed, directory], count=count, param=len(directory))


def encoded(names):
    """Names of (bytes shared with the one before, rest)."""
    return (
        np.array([shared for shared, _ in names], "<u2").tobytes()
        + np.array([len(rest) for _, rest in names], "<u2").tobytes()
        + b"".join(rest for _, rest in names)
    )


def sharing(count, width=60_000):
    """`count` names of 60,000 bytes in a few bytes each."""
    return encoded([(0, b"a" * width), *((width, b"%06d" % i) for i in range(count - 1))])


BLOCK = encoded([(0, b"n")])

NAMES_FAULTS = {
    "a block of names that share nearly all": names_section([sharing(130)], encoded([(0, b"a")]), 130),
    "first names that share nearly all": names_section([BLOCK] * 20_000, sharing(20_000), 20_000 * 512),
    "a block that unpacks to zeros": names_section([bytes(33 << 20)], encoded([(0, b"a")]), 130),
    "a directory that unpacks to zeros": names_section([BLOCK], encoded([(0, b"a")]) + bytes(200 << 20), 130),
    "names out of order": names_section([encoded([(0, b"b"), (0, b"a")])], encoded([(0, b"b")]), 2),
    "a name twice": names_section([encoded([(0, b"b"), (1, b"")])], encoded([(0, b"b")]), 2),
    "a name that is not UTF-8": names_section([encoded([(0, b"\xff")])], encoded([(0, b"\xff")]), 1),
    "an empty name": names_section([encoded([(0, b"")])], encoded([(0, b"")]), 1),
    "more names than files": names_section([encoded([(0, b"a")])], encoded([(0, b"a")]), 1 << 50),
    "fewer names than files": names_section([encoded([(0, b"a")])], encoded([(0, b"a")]), 1),
}

HUGE = (1 << 64) - 1
OTHER_FAULTS = {
    "a filter of one huge segment": NewSection(
        SectionKind.FILTER,
        [np.array([7], "<u8").tobytes() + np.array([SEGMENT_LENGTH_MAX * 2, 1], "<u4").tobytes()],
        count=len(FILES),
    ),
    "an endless filter": NewSection(
        SectionKind.FILTER,
        [np.array([7], "<u8").tobytes() + np.array([4, (1 << 32) - 1], "<u4").tobytes()],
        count=len(FILES),
    ),
    "deep statistics": NewSection(SectionKind.STATS, [b"[" * 200_000]),
    "statistics of endless numbers": NewSection(SectionKind.STATS, [b'{"files":' + b"9" * 100_000 + b"}"]),
    "groups that lie nowhere": NewSection(
        SectionKind.INDEXDIR, [np.array([HUGE, 0] * 3, "<u8").tobytes()], count=3, param=GROUP_SIZE
    ),
    "groups in a circle": NewSection(
        SectionKind.INDEXDIR, [np.array([0, 0] * 3, "<u8").tobytes()], count=3, param=GROUP_SIZE
    ),
    "one group of everything": NewSection(
        SectionKind.INDEXDIR, [np.array([0, 0], "<u8").tobytes()], count=1, param=GROUP_SIZE
    ),
}


def pages(sound, **fields):
    """HASHPAGES in which every record has `fields`."""

    def read(wanted):
        return sound[wanted.start : wanted.stop]

    uuid = run(open_end(len(sound)), read).ext.uuid
    records = b"".join(
        encode_record(
            key_of(name_digest(name.encode())),
            **{"offset": 16, "length": 3, "flags": 0, "proof": 0, "ordinal": i, **fields},
        )
        for i, name in enumerate(FILES)
    )
    plan = plan_pages(records)
    return NewSection(SectionKind.HASHPAGES, list(plan.pages(uuid)), count=len(FILES), param=plan.page_count)


RECORD_FAULTS = {
    "at the end of the world": {"offset": OFFSET_MAX},
    "of everything": {"length": LENGTH_CHECK_INDEX - 1},
    "external": {"flags": 1, "length": 1 << 39},
    "compressed without a codec": {"flags": 2},
    "with a codec and not compressed": {"slot": 5},
    "with metadata without end": {"proof": (1 << 32) - 1},
    "of a place that INDEX has not": {"ordinal": (1 << 32) - 1},
    "to be looked up where INDEX has not": {"length": LENGTH_CHECK_INDEX, "ordinal": (1 << 32) - 1},
    "to be looked up elsewhere": {"length": LENGTH_CHECK_INDEX, "ordinal": 0},
    "of another file": {"ordinal": 1},
    "encrypted": {"flags": 4},
    "deleted": {"flags": 8},
}


async def check(data, tmp_path):
    """Ask both readers for everything, in bounded memory; what they answer is right."""
    path = tmp_path / "c.des"
    path.write_bytes(data)
    store = MemoryObjectStore()
    await put(store, "c.des", data)
    names = list(FILES)[::43]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        refused = 0
        for ask in (
            lambda reader: reader.list_files(),
            lambda reader: reader.list_files("name1", limit=3),
            list,
            *(lambda reader, name=name: reader.get_file(name) for name in names),
            *(lambda reader, name=name: reader.get_meta(name).user for name in names),
        ):
            try:
                with DesReader(path) as reader:
                    check_answer(ask(reader))
            except DesError:
                refused += 1
        for ask in (
            lambda reader: reader.list_files(),
            lambda reader: reader.load_filter(),
            *(lambda reader, name=name: reader.get_file(name) for name in names),
            *(lambda reader, name=name: reader.stat(name) for name in names),
        ):
            try:
                check_answer(await ask(S3DesReader(store, "c.des")))
            except DesError:
                refused += 1
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_MAX + 3 * len(data)
    return refused


def check_answer(answer):
    if isinstance(answer, bytes):
        assert answer in FILES.values()
    elif isinstance(answer, list) and answer and isinstance(answer[0], str):
        assert set(answer) <= set(FILES)


@pytest.mark.parametrize("layout", Layout)
async def test_what_is_put_together_again_is_sound(layout, tmp_path):
    sound = container(layout)
    assert await check(with_sections(sound), tmp_path) == 0


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("fault", NAMES_FAULTS)
async def test_names_that_lie_are_refused(fault, layout, tmp_path):
    assert await check(with_sections(container(layout), NAMES_FAULTS[fault]), tmp_path) >= 2


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("fault", OTHER_FAULTS)
async def test_another_section_that_lies_does_no_harm(fault, layout, tmp_path):
    await check(with_sections(container(layout), OTHER_FAULTS[fault]), tmp_path)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("fault", RECORD_FAULTS)
async def test_a_record_that_lies_is_refused_or_not_believed(fault, layout, tmp_path):
    sound = container(layout)
    await check(with_sections(sound, pages(sound, **RECORD_FAULTS[fault])), tmp_path)


@pytest.mark.parametrize("layout", Layout)
async def test_an_object_cut_anywhere_is_corrupt(layout):
    target = io.BytesIO()
    with DesWriter(target, layout=layout) as writer:
        writer.add_file("one", b"1")
    sound = target.getvalue()
    store = MemoryObjectStore()
    for size in range(0, len(sound), 3):
        await put(store, f"{size}.des", sound[:size])
        with pytest.raises(DesError):
            await S3DesReader(store, f"{size}.des").open()
