"""Damage anywhere in a container ends in an error or does no harm: never in wrong bytes.

D10 to D14 and D21 are defects measured in the origin; each is a test here.
"""

import io
import struct
from pathlib import Path

import google_crc32c
import pytest

from des.core import ContainerIndex, DesReader, DesWriter, S3DesReader
from des.core.file_view import ExternalFileMissingError
from des.errors import DesError
from des.format.errors import CorruptContainerError, UnsupportedContainerError
from des.format.footer import FOOTER_SIZE, BadFooterError, Footer
from des.format.frame import BadFrameError, encode_frame_header
from des.format.header import HEADER
from des.format.index import FIXED, NAME_LENGTH, BadIndexError
from des.format.layout import Layout
from des.format.plan import open_container, run
from des.format.system_metadata import BadMetadataError, SystemMetadata
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import ObjectDamagedError
from des.testing.object_store_suite import put

FILES = {"first": b"the first file", "empty": b"", "żółw": b"\x00\xff" * 20, "last": b"z"}
OUTSIDE = {"big/outside": b"bytes outside"}


def sample(layout):
    """A plain v1 archive; every file has a checksum, in a frame or in its metadata."""
    target = io.BytesIO()
    with DesWriter(target, layout=layout, ext=False) as writer:
        for name, data in FILES.items():
            writer.add_file(name, data, metadata={"of": name}, crc32c=google_crc32c.value(data))
        [(key, data)] = OUTSIDE.items()
        system = SystemMetadata(crc32c=google_crc32c.value(data), content_type="text/plain")
        writer.add_external("outside", size=len(data), external_key=key, metadata={}, system=system)
    return target.getvalue()


def read_all(path):
    """Return the files that read, by name; demand that everything else fails on purpose."""
    read = {}
    with DesReader(path, external=OUTSIDE.__getitem__) as reader:
        for name in [*FILES, "outside"]:
            try:
                read[name] = reader.get_file(name)
                start = len(read[name]) // 2
                assert reader.get_range(name, start) == read[name][start:]
            except (DesError, KeyError):
                continue
    return read


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_any_damaged_byte_is_an_error_or_does_no_harm(layout, mask, tmp_path):
    """D10."""
    container = sample(layout)
    path = tmp_path / "c.des"
    expected = {**FILES, "outside": OUTSIDE["big/outside"]}
    refused = 0
    for place in range(len(container)):
        damaged = bytearray(container)
        damaged[place] ^= mask
        path.write_bytes(damaged)
        try:
            read = read_all(path)
        except CorruptContainerError:
            refused += 1
            continue
        for name, data in read.items():
            assert data == expected[name], (place, name)
    assert refused > FOOTER_SIZE


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_any_damaged_byte_of_a_frame_spoils_that_file_alone(mask, tmp_path):
    container = sample(Layout.FRAMED)
    path = tmp_path / "c.des"
    with_index = Footer.decode(container[-FOOTER_SIZE:])
    for place in range(with_index.data_start, with_index.data_stop):
        damaged = bytearray(container)
        damaged[place] ^= mask
        path.write_bytes(damaged)
        assert len(read_all(path)) == len(FILES), place


@pytest.mark.parametrize("layout", Layout)
def test_a_container_cut_anywhere_is_corrupt(layout, tmp_path):
    """D5, D13: a crash leaves a prefix, and no prefix is a container."""
    container = sample(layout)
    path = tmp_path / "c.des"
    for size in range(len(container)):
        path.write_bytes(container[:size])
        with pytest.raises(CorruptContainerError):
            DesReader(path)


@pytest.mark.parametrize("layout", Layout)
async def test_a_cut_object_is_corrupt_for_the_object_store_reader(layout):
    container = sample(layout)
    for size in range(0, len(container), 7):
        store = MemoryObjectStore()
        await put(store, "c.des", container[:size])
        with pytest.raises(CorruptContainerError):
            await S3DesReader(store, "c.des").open()


async def test_an_object_that_shrank_under_a_known_size_is_damage():
    container = sample(Layout.FRAMED)
    store = MemoryObjectStore()
    made = await put(store, "c.des", container[:-10])
    with pytest.raises(ObjectDamagedError):
        await S3DesReader(store, "c.des", size=len(container), etag=made.etag).open()


# --- hostile containers, made by hand -----------------------------------------------------------


def build(entries, *, data=b"", meta=b"", count=None):
    """A container from parts. An entry is (name bytes, data_offset, data_length, meta_offset, meta_length,
    flags), metadata places counted from META where there is one."""
    meta_start = len(HEADER) + len(data)
    index = b"".join(
        NAME_LENGTH.pack(len(name)) + name + FIXED.pack(offset, length, meta_start + at, size, flags)
        for name, offset, length, at, size, flags in entries
    )
    footer = Footer(
        data_start=len(HEADER),
        data_length=len(data),
        meta_start=meta_start,
        meta_length=len(meta),
        index_start=meta_start + len(meta),
        index_length=len(index),
        file_count=len(entries) if count is None else count,
    )
    return HEADER + data + meta + index + footer.encode()


def index_of(container):
    footer, raw = run(open_container(len(container)), lambda wanted: container[wanted.start : wanted.stop])
    return ContainerIndex.parse(raw, footer)


ONE = b'{"size":10}'
TEN = b"0123456789"


def test_the_hand_made_container_is_sound():
    index = index_of(build([(b"a", 16, 10, 0, 11, 0)], data=TEN, meta=ONE))
    assert [entry.name for entry in index] == ["a"]


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ((b"a", 15, 10, 0, 11, 0), "outside DATA"),
        ((b"a", 16, 11, 0, 11, 0), "outside DATA"),
        ((b"a", 27, 0, 0, 11, 0), "outside DATA"),
        ((b"a", 16, 1 << 40, 0, 11, 0), "outside DATA"),
        ((b"a", 16, 1 << 63, 0, 11, 0), "outside DATA"),
        ((b"a", (1 << 64) - 1, 1, 0, 11, 0), "outside DATA"),
        ((b"a", 17, (1 << 64) - 1, 0, 11, 0), "outside DATA"),
        ((b"a", 16, 10, 0, 12, 0), "metadata outside"),
        ((b"a", 16, 10, 5, (1 << 64) - 5, 0), "metadata outside"),
        ((b"a", 16, 10, 0, 0, 0), "no metadata"),
        ((b"a", 16, 10, 0, 11, 16), "unknown flags"),
        ((b"a", 16, 10, 0, 11, 1 << 31), "unknown flags"),
        ((b"a", 16, 10, 0, 11, 1), "has a place in DATA"),
        ((b"a", 0, 1 << 63, 0, 11, 1), "too long"),
        ((b"", 16, 10, 0, 11, 0), "without a name"),
        ((b"\xff\xfe", 16, 10, 0, 11, 0), "not UTF-8"),
        ((b"\xed\xa0\x80", 16, 10, 0, 11, 0), "not UTF-8"),
    ],
)
def test_an_entry_that_points_astray_is_refused(entry, found):
    """D13: nothing is read, and nothing allocated, on its word."""
    with pytest.raises(BadIndexError, match=found):
        index_of(build([entry], data=TEN, meta=ONE))


def test_a_name_given_twice_is_refused():
    """D11."""
    entries = [(b"a", 16, 5, 0, 11, 0), (b"bb", 21, 1, 0, 11, 0), (b"a", 22, 4, 0, 11, 0)]
    with pytest.raises(BadIndexError, match="'a' twice"):
        index_of(build(entries, data=TEN, meta=ONE))


def test_a_thousand_entries_over_one_range_need_be_identical():
    """D13: shared bytes are legal (stored once, named often), partly shared ones are not."""
    same = [(b"%d" % i, 16, 10, 0, 11, 0) for i in range(1000)]
    assert len(index_of(build(same, data=TEN, meta=ONE))) == 1000
    with pytest.raises(BadIndexError, match="over each other at 17"):
        index_of(build([*same, (b"other", 17, 3, 0, 11, 0)], data=TEN, meta=ONE))


@pytest.mark.parametrize("count", [0, 1, 3, 1 << 20, 1 << 63])
def test_a_wrong_count_is_refused(count):
    entries = [(b"a", 16, 5, 0, 11, 0), (b"b", 21, 5, 0, 11, 0)]
    with pytest.raises((BadIndexError, BadFooterError)):
        index_of(build(entries, data=TEN, meta=ONE, count=count))


def test_an_index_of_many_lengths_is_walked_to_its_end():
    entries = [(b"n" * (1 + i % 7), 16, 0, 0, 11, 0) for i in range(7)]
    container = build(entries, data=TEN, meta=ONE)
    assert len(index_of(container)) == 7
    footer = Footer.decode(container[-FOOTER_SIZE:])
    index = bytearray(container[footer.index_start : footer.index_stop])
    for length in (0, 200, 65535):
        struct.pack_into("<H", index, 0, length)
        with pytest.raises(BadIndexError):
            ContainerIndex.parse(bytes(index), footer)


@pytest.mark.parametrize("field", range(7))
@pytest.mark.parametrize("value", [0, 1, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_footer_with_any_absurd_field_is_refused(field, value):
    entries = [(b"a", 16, 5, 0, 11, 0), (b"b", 21, 5, 0, 11, 0)]
    container = bytearray(build(entries, data=TEN, meta=ONE))
    struct.pack_into("<Q", container, len(container) - FOOTER_SIZE + 16 + 8 * field, value)
    with pytest.raises(CorruptContainerError):
        index_of(bytes(container))


def test_gaps_between_sections_are_legal():
    """The extension region will stand between INDEX and FOOTER."""
    container = build([(b"a", 16, 10, 0, 11, 0)], data=TEN, meta=ONE)
    body, footer = container[:-FOOTER_SIZE], container[-FOOTER_SIZE:]
    assert [entry.name for entry in index_of(body + bytes(5000) + footer)] == ["a"]
    assert [entry.name for entry in index_of(body + bytes(100_000) + footer)] == ["a"]


@pytest.mark.parametrize("flags", [2, 4, 8, 3])
async def test_bytes_that_are_not_the_files_bytes_are_not_returned(flags, tmp_path):
    """The origin returns compressed bytes as the file."""
    path = tmp_path / "c.des"
    meta = b'{"size":10,"is_external":true,"external_key":"k"}'
    entry = (b"a", 0 if flags & 1 else 16, 10, 0, len(meta), flags)
    path.write_bytes(build([entry], data=TEN, meta=meta))
    with DesReader(path, external=lambda _key: TEN) as reader:
        assert reader.get_meta("a").size == 10
        with pytest.raises(UnsupportedContainerError):
            reader.get_file("a")
        with pytest.raises(UnsupportedContainerError):
            reader.get_range("a", 1, 2)
    store = MemoryObjectStore()
    await put(store, "c.des", path.read_bytes())
    remote = S3DesReader(store, "c.des")
    entry = await remote.find("a")
    assert entry is not None
    with pytest.raises(UnsupportedContainerError):
        await remote.read_entry(entry)
    with pytest.raises(UnsupportedContainerError):
        await anext(remote.stream_entry(entry))
    [result] = await remote.read_entries([entry])
    assert isinstance(result, UnsupportedContainerError)


@pytest.mark.parametrize(
    "meta",
    [
        b"",
        b"[]",
        b"7",
        b"{}",
        b'{"size":9}',
        b'{"size":"10"}',
        b'{"size":true}',
        b'{"size":10',
        b'{"size":10}}',
        b'{"size":NaN}',
        b"\xff",
        b"[" * 60_000,
        b'{"size":10,"_des":7}',
        b'{"size":10,"_des":{"crc32c":"0"}}',
        b'{"size":10,"_des":{"crc32c":"ABCDEF01"}}',
        b'{"size":10,"_des":{"unknown":1}}',
        b'{"size":10,"_des":{"content_type":1}}',
        b'{"size":10,"_des":{"block_size":65536}}',
        b'{"size":10,"_des":{"block_crc32c":"AAAAAA=="}}',
        b'{"size":10,"_des":{"block_size":1,"block_crc32c":"AAAAAA=="}}',
        b'{"size":10,"_des":{"block_size":65537,"block_crc32c":"AAAAAA=="}}',
        b'{"size":10,"_des":{"block_size":65536.0,"block_crc32c":"AAAAAA=="}}',
        b'{"size":10,"_des":{"block_size":65536,"block_crc32c":"AAAA"}}',
        b'{"size":10,"_des":{"block_size":65536,"block_crc32c":"AAAAAAAAAAA="}}',
        b'{"size":10,"_des":{"block_size":65536,"block_crc32c":"?"}}',
        b'{"size":10,"_des":{"block_size":65536,"block_crc32c":5}}',
    ],
)
def test_metadata_that_contradicts_the_format_is_refused(meta, tmp_path):
    path = tmp_path / "c.des"
    path.write_bytes(build([(b"a", 16, 10, 0, len(meta) or 1, 0)], data=TEN, meta=meta or b" "))
    with DesReader(path) as reader, pytest.raises(BadMetadataError):
        reader.get_file("a")


def test_the_index_alone_says_whether_a_file_is_external(tmp_path):
    """D21: a user's own key does not send a reader elsewhere."""
    path = tmp_path / "c.des"
    meta = b'{"is_external":true,"external_key":"/etc/passwd","size":10}'
    path.write_bytes(build([(b"a", 16, 10, 0, len(meta), 0)], data=TEN, meta=meta))
    with DesReader(path) as reader:
        assert reader.get_file("a") == TEN
        assert reader.get_meta("a").external_key is None


async def test_a_file_of_no_bytes_costs_no_read_of_data():
    """D14: no range is asked for that a server may answer with the whole object."""
    container = build([(b"a", 16, 0, 0, 10, 0)], data=TEN, meta=b'{"size":0}')
    store = MemoryObjectStore()
    await put(store, "c.des", container)
    reader = S3DesReader(store, "c.des")
    await reader.open()
    before = reader.cost.bytes
    assert await reader.get_file("a") == b""
    assert reader.cost.bytes - before == 10


def test_a_frame_of_another_file_is_refused(tmp_path):
    """INDEX swapped two files of equal lengths: the frames tell."""
    target = io.BytesIO()
    with DesWriter(target, ext=False) as writer:
        writer.add_file("a", b"one")
        writer.add_file("b", b"two")
    container = target.getvalue()
    footer = Footer.decode(container[-FOOTER_SIZE:])
    index = container[footer.index_start : footer.index_stop]
    half = len(index) // 2
    swapped = index[:3] + index[half + 3 :] + index[half : half + 3] + index[3:half]
    path = tmp_path / "c.des"
    path.write_bytes(container.replace(index, swapped))
    with DesReader(path) as reader:
        for name in ("a", "b"):
            with pytest.raises(BadFrameError):
                reader.get_file(name)
            with pytest.raises(BadFrameError):
                reader.get_meta(name)


@pytest.mark.parametrize("codec", [1, 255])
def test_a_frame_with_a_codec_that_no_flag_announces_is_refused(codec, tmp_path):
    meta = b'{"size":3}'
    header = bytearray(
        encode_frame_header(b"a", meta, flags=0, stored_length=3, data_crc32c=google_crc32c.value(b"one"))
    )
    header[10] = codec
    struct.pack_into("<I", header, 28, google_crc32c.value(bytes(header[:28]) + b"a" + meta))
    data = bytes(header) + b"one" + b"a" + meta
    # META is empty and starts where DATA ends, so places in it count from there.
    container = build([(b"a", 48, 3, -len(meta), len(meta), 0)], data=data)
    path = tmp_path / "c.des"
    path.write_bytes(container)
    with DesReader(path) as reader, pytest.raises(BadFrameError, match=f"codec {codec}"):
        reader.get_file("a")


def test_frames_that_overlap_are_refused():
    target = io.BytesIO()
    with DesWriter(target) as writer:
        writer.add_file("a", b"one")
        writer.add_file("b", b"two")
    container = target.getvalue()
    footer = Footer.decode(container[-FOOTER_SIZE:])
    index = container[footer.index_start : footer.index_stop]
    half = len(index) // 2
    both_first = index[:half] + index[half : half + 3] + index[3:half]
    with pytest.raises(BadIndexError, match="over each other"):
        ContainerIndex.parse(both_first, footer)


async def test_an_external_object_that_is_gone_or_other_is_corrupt(tmp_path):
    for layout in Layout:
        store = MemoryObjectStore()
        await put(store, "c.des", sample(layout))
        with pytest.raises(ExternalFileMissingError):
            await S3DesReader(store, "c.des").get_file("outside")
        await put(store, "big/outside", b"bytes 0utside")
        with pytest.raises(CorruptContainerError):
            await S3DesReader(store, "c.des").get_file("outside")
        with pytest.raises(CorruptContainerError):
            await S3DesReader(store, "c.des").get_range("outside", 0, 2)
        await store.delete("big/outside")
        await put(store, "big/outside", b"bytes")
        with pytest.raises(ObjectDamagedError):
            await S3DesReader(store, "c.des").get_file("outside")


async def test_a_damaged_file_fails_alone_in_a_batch():
    container = bytearray(sample(Layout.FRAMED))
    container[container.index(FILES["first"])] ^= 1
    store = MemoryObjectStore()
    await put(store, "c.des", bytes(container))
    await put(store, "big/outside", OUTSIDE["big/outside"])
    reader = S3DesReader(store, "c.des")
    results = await reader.read_entries(list(await reader.get_index()))
    assert isinstance(results[0], CorruptContainerError)
    assert [result[0] for result in results[1:]] == [*list(FILES.values())[1:], OUTSIDE["big/outside"]]
    with pytest.raises(CorruptContainerError):
        await reader.get_files_batch(["last", "first"])


def test_a_file_that_is_not_there_is_not_a_corrupt_container(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        DesReader(tmp_path / "absent.des")
