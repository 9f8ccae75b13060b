"""The sections of EXT, each alone."""

import hashlib
import random

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from des.format import names as names_module
from des.format.block_crc import FLAG_ROOT, BlockCrc, scrub
from des.format.errors import ChecksumMismatchError, UnsupportedContainerError
from des.format.footer import Footer
from des.format.fuse_filter import FuseFilter, build_filter
from des.format.hash_pages import (
    LENGTH_CHECK_INDEX,
    PAGE_HEADER_SIZE,
    PAGE_SIZE,
    RECORDS_MAX,
    BadPageError,
    PagesGeometry,
    Unsettled,
    encode_record,
    find_many_plain,
    find_plain,
)
from des.format.index import ENTRY_SIZE_MIN
from des.format.index_directory import decode_directory, encode_directory, group_range, group_starts
from des.format.locate import look_up
from des.format.name_key import hash_of, key_of, name_digest
from des.format.names import BLOCK_NAMES, encode_names, list_names, read_directory
from des.format.page_plan import encode_records, plan_pages, scale
from des.format.plan import run
from des.format.section_table import BadSectionError, Section, SectionKind
from des.format.stats import Stats

UUID = bytes(range(16))


def section_of(data, *, kind=SectionKind.NAMES, count=0, param=0, flags=0):
    return Section(kind, 0, flags, 0, len(data), count, google_crc32c.value(data), param)


def sliced(data):
    return lambda wanted: data[wanted.start : wanted.stop]


# --- HASHPAGES ------------------------------------------------------------------------------------


def pages_of(digests):
    records = b"".join(
        encode_record(key_of(digest), 16 + i, i, 0, i * 3, i) for i, digest in enumerate(digests)
    )
    plan = plan_pages(records)
    data = b"".join(plan.pages(UUID))
    return PagesGeometry(UUID, 0, len(data), plan.page_count), data


def find(geometry, data, digest):
    plan = look_up(geometry, digest)
    try:
        page = next(plan)
        while True:
            found = data[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
            geometry.check_page(page, found)
            page = plan.send(found)
    except StopIteration as done:
        return done.value


@pytest.mark.parametrize("count", [0, 1, 114, 115, 127, 128, 1000, 30_000])
def test_every_name_is_in_its_page_or_the_next(count):
    digests = [name_digest(b"%d" % i) for i in range(count)]
    geometry, data = pages_of(digests)
    for i, digest in enumerate(digests):
        [record] = find(geometry, data, digest)
        assert (record.ordinal, record.offset, record.length, record.proof) == (i, 16 + i, i, i * 3)
    assert all(not find(geometry, data, name_digest(b"no%d" % i)) for i in range(500))
    assert len(data) <= (count / (RECORDS_MAX * 0.9) + 2) * PAGE_SIZE


def test_a_page_number_is_exact_at_the_edges():
    rng = random.Random(3)
    hashes = [
        0,
        1,
        (1 << 64) - 1,
        1 << 63,
        (1 << 32) - 1,
        1 << 32,
        *(rng.getrandbits(64) for _ in range(500)),
    ]
    for parts in (1, 2, 3, 87_490, (1 << 32) - 1):
        expected = [value * parts >> 64 for value in hashes]
        assert expected == scale(np.array(hashes, np.uint64), parts).tolist()


def test_records_of_one_key_all_say_that_index_is_to_be_asked():
    same = bytes(32)
    other = name_digest(b"other")
    geometry, data = pages_of([same, other, same, same])
    assert sorted(record.ordinal for record in find(geometry, data, same)) == [0, 2, 3]
    assert all(record.length == LENGTH_CHECK_INDEX for record in find(geometry, data, same))
    assert [record.ordinal for record in find(geometry, data, other)] == [1]


def test_what_fits_no_record_is_looked_up_in_index():
    for offset, length in ((1 << 48, 1), (0, LENGTH_CHECK_INDEX), (0, 1 << 60)):
        geometry = pages_of([bytes(32)])[0]
        data = b"".join(plan_pages(encode_record(bytes(12), offset, length, 1, 5, 0)).pages(UUID))
        [record] = find(geometry, data, bytes(32))
        assert record.check_index


u64 = (
    st.integers(0, 1 << 48)
    | st.integers(LENGTH_CHECK_INDEX - 2, LENGTH_CHECK_INDEX + 2)
    | st.integers(0, (1 << 64) - 1)
)
RECORD = st.tuples(
    st.binary(min_size=12, max_size=12), u64, u64, *[st.integers(0, 15)] * 2, st.integers(0, (1 << 32) - 1)
)


@given(st.lists(RECORD, max_size=20))
def test_records_made_together_are_those_made_one_by_one(records):
    fields = [
        ("key", "V12"),
        ("offset", "<u8"),
        ("length", "<u8"),
        ("flags", "u1"),
        ("slot", "u1"),
        ("proof", "<u4"),
    ]
    one_by_one = b"".join(
        encode_record(key, offset, length, flags, proof, ordinal, slot)
        for ordinal, (key, offset, length, flags, slot, proof) in enumerate(records)
    )
    assert encode_records(np.array(records, np.dtype(fields))) == one_by_one


def test_many_names_of_a_page_are_found_as_one_by_one():
    digests = [name_digest(b"%d" % i) for i in range(900)]
    records = [
        encode_record(key_of(digest), 16 + i, LENGTH_CHECK_INDEX if i % 50 == 7 else i, 0, i * 3, i)
        for i, digest in enumerate(digests)
    ]
    plan = plan_pages(b"".join(records))
    data = b"".join(plan.pages(UUID))
    sought = digests + [name_digest(b"absent %d" % i) for i in range(40)]
    seen = set()
    for start in range(0, len(data), PAGE_SIZE):
        page = data[start : start + PAGE_SIZE]
        alone = [find_plain(page, digest) for digest in sought]
        assert find_many_plain(page, sought) == alone
        assert find_many_plain(page, sought[:3]) == alone[:3]
        seen.update(found for found in alone if isinstance(found, Unsettled))
        seen.update(found[1] for found in alone if not isinstance(found, Unsettled))
    assert seen >= {i for i in range(900) if i % 50 != 7} | {Unsettled.INDEX, Unsettled.ABSENT}


def test_many_names_of_a_page_with_two_records_of_one_key():
    digests = [name_digest(b"%d" % i) for i in range(30)]
    page = pages_of(digests)[1][:PAGE_SIZE]
    start = PAGE_HEADER_SIZE
    doubled = page[:start] + page[start : start + 32] + page[start : start + 32] + page[start + 64 :]
    found = find_many_plain(doubled, digests)
    assert found == [find_plain(doubled, digest) for digest in digests]
    # No writer makes this. The first is taken, and its frame says whether it is of this name.
    assert Unsettled.INDEX not in found


def test_a_page_in_another_place_is_refused():
    geometry, data = pages_of([name_digest(b"%d" % i) for i in range(500)])
    with pytest.raises(BadPageError):
        geometry.check_page(1, data[:PAGE_SIZE])
    with pytest.raises(BadPageError):
        PagesGeometry(UUID[::-1], 0, geometry.length, geometry.page_count).check_page(0, data[:PAGE_SIZE])
    for length, count in ((0, 0), (0, 1), (PAGE_SIZE - 1, 1), (3 * PAGE_SIZE, 1), (PAGE_SIZE, 1 << 32)):
        with pytest.raises(BadPageError):
            PagesGeometry(UUID, 0, length, count)


# --- FILTER ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 1000, 100_000])
def test_the_filter_denies_no_name_and_lets_one_in_256_pass(count):
    present = [hash_of(name_digest(b"%d" % i)) for i in range(count)]
    built = build_filter(np.array(present, np.uint64))
    assert built == build_filter(np.array(present, np.uint64))
    decoded = FuseFilter.decode(built.encode())
    assert all(value in decoded for value in present)
    passed = sum(hash_of(name_digest(b"no%d" % i)) in decoded for i in range(50_000))
    assert 50_000 / 256 * 0.6 < passed < 50_000 / 256 * 1.5
    if count == 100_000:
        assert len(built.encode()) / count < 1.2


@pytest.mark.parametrize(
    "data", [b"", bytes(15), bytes(16), bytes(8) + b"\x03\0\0\0\1\0\0\0" + bytes(9), bytes(8) + b"\xff" * 8]
)
def test_a_filter_that_contradicts_itself_is_refused(data):
    with pytest.raises(BadSectionError):
        FuseFilter.decode(data)


# --- NAMES ----------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def names_section(names):
    parts = list(encode_names([name.encode() for name in sorted(names)]))
    data = b"".join(parts)
    return section_of(data, count=len(names), param=len(parts[-1]) if parts else 0), data


def footer_with(names):
    """The footer of a container with these names."""
    length = sum(ENTRY_SIZE_MIN + len(name.encode()) for name in names)
    return Footer(16, 0, 16, 0, 16, length, len(names))


@settings(max_examples=60, deadline=None)
@given(names=st.sets(texts, max_size=80), prefix=st.text(max_size=2), after=st.text(max_size=3))
def test_names_are_listed_as_a_sorted_list_would(names, prefix, after):
    expected = [name for name in sorted(names) if name.startswith(prefix) and name > after]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names_module, "BLOCK_NAMES", 7)
        section, data = names_section(names)
        directory = run(read_directory(section, footer_with(names)), sliced(data))
        for limit in (None, 0, 1, 5):
            plan = list_names(directory, prefix=prefix, start_after=after, limit=limit)
            assert run(plan, sliced(data)) == expected[:limit]


def test_a_page_of_names_reads_its_blocks_alone():
    names = [f"n{i:06d}" for i in range(100_000)]
    section, data = names_section(names)
    directory = run(read_directory(section, footer_with(names)), sliced(data))
    reads = []

    def read(wanted):
        reads.append(wanted.stop - wanted.start)
        return data[wanted.start : wanted.stop]

    assert run(list_names(directory, start_after=names[49_999], limit=1000), read) == names[50_000:51_000]
    assert len(reads) == 1
    assert reads[0] < len(data) // 30
    assert run(list_names(directory, prefix="n0123"), read) == names[12_300:12_400]
    assert run(list_names(directory, prefix="zz"), read) == []
    assert run(list_names(directory), read) == names


@pytest.mark.parametrize("width", [1, 300, 65_535])
def test_long_names_are_kept(width):
    names = sorted({"x" * width, "x" * (width - 1) + "y", "ż" * (width // 2) + "z"})
    section, data = names_section(names)
    assert (
        run(list_names(run(read_directory(section, footer_with(names)), sliced(data))), sliced(data)) == names
    )
    assert names_module._encode_long_names([n.encode() for n in names]) == names_module._encode_names(
        [n.encode() for n in names]
    )


def test_damaged_names_are_refused():
    names = [f"n{i}" for i in range(BLOCK_NAMES + 10)]
    section, data = names_section(names)
    for place in range(0, len(data), 11):
        damaged = bytearray(data)
        damaged[place] ^= 1
        damaged = bytes(damaged)
        with pytest.raises((ChecksumMismatchError, BadSectionError)):
            run(
                list_names(run(read_directory(section, footer_with(names)), sliced(damaged))), sliced(damaged)
            )
    for count, param in ((1, section.param), (1 << 40, section.param), (len(names), 0), (len(names), 5)):
        with pytest.raises((ChecksumMismatchError, BadSectionError)):
            run(read_directory(section_of(data, count=count, param=param), footer_with(names)), sliced(data))


def test_a_bomb_is_not_unpacked(monkeypatch):
    names = [f"n{i}" for i in range(1000)]
    section, data = names_section(names)
    monkeypatch.setattr(names_module, "DIRECTORY_SIZE_MAX", 10)
    with pytest.raises(UnsupportedContainerError):
        run(read_directory(section, footer_with(names)), sliced(data))


# --- INDEXDIR, BLOCKCRC, STATS ----------------------------------------------------------------------


def test_groups_of_index_are_found_again():
    entry = (3).to_bytes(2, "little") + b"abc" + bytes(36)
    for count in (0, 1, 64, 65, 200):
        index = entry * count
        starts = group_starts(index)
        data = encode_directory(index, starts, [])
        groups = decode_directory(data, len(index), count)
        assert [group.start for group in groups] == starts
        assert [group.stop for group in groups] == [*starts, len(index)][1:]
        assert all(len(group.entries(index[group.start : group.stop])) <= 64 for group in groups)
        if count:
            start, stop = group_range(count - 1, count)
            assert (start, stop) == (len(data) - 16, len(data))
            with pytest.raises(BadSectionError):
                decode_directory(data, len(index) - 41 * 64, count)
        with pytest.raises(BadSectionError):
            decode_directory(data + bytes(16), len(index), count)


def test_scrubbing_finds_the_damaged_block():
    data = random.Random(5).randbytes((5 << 20) // 2)
    parts = [data[start : start + (1 << 20)] for start in range(0, len(data), 1 << 20)]
    block_crc = BlockCrc(tuple(map(google_crc32c.value, parts)), hashlib.sha256(data).digest())
    encoded = block_crc.encode()
    section = section_of(encoded, kind=SectionKind.BLOCKCRC, count=3, flags=FLAG_ROOT)
    assert BlockCrc.decode(encoded, section, len(data)) == block_crc
    assert run(scrub(block_crc, len(data)), sliced(data)) == 3
    damaged = bytearray(data)
    damaged[(1 << 20) + 7] ^= 1
    assert run(scrub(block_crc, len(data), [0, 2]), sliced(bytes(damaged))) == 2
    with pytest.raises(ChecksumMismatchError, match=f"at {1 << 20}"):
        run(scrub(block_crc, len(data)), sliced(bytes(damaged)))
    with pytest.raises(BadSectionError):
        BlockCrc.decode(encoded, section, len(data) + (1 << 20))


def test_stats_read_back_and_later_keys_are_skipped():
    stats = Stats(2, 1, 12, 5, "a", "ż", {"3": 2})
    assert Stats.decode(stats.encode()) == stats
    assert Stats.decode(stats.encode()[:-1] + b',"later":1}') == stats
    for data in (b"", b"[]", b"{}", b"\xff", b"[" * 5000):
        with pytest.raises(BadSectionError):
            Stats.decode(data)
