"""docs/format.md says what the code does: tables, limits and listings."""

import io
import re
from pathlib import Path

import pytest

from des.core import DesReader, DesWriter
from des.core.ext_builder import PAGES_LAST_MAX
from des.files import BLOCK_SIZE
from des.format import (
    compression,
    compressor,
    dictionaries,
    ext_trailer,
    footer,
    frame,
    fuse_filter,
    hash_pages,
    header,
    index,
    index_directory,
    locate,
    metadata,
    names,
    section_table,
    system_metadata,
)

DOCUMENT = (Path(__file__).parents[3] / "docs/format.md").read_text(encoding="utf-8")
CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
SIZES = {"u8": 1, "u16": 2, "u32": 4, "u40": 5, "u48": 6, "u64": 8}
CONTAINER_ID = "019a0c55-7a00-7000-8000-000000000001"


def section(number):
    return re.search(rf"^## {number}\. .*?(?=^## |\Z)", DOCUMENT, re.DOTALL | re.MULTILINE).group()


def tables(number):
    """The tables of a section, each a list of rows, each a list of cells without the head."""
    found = re.findall(r"(?:^\|.*\n)+", section(number), re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]
        for table in found
    ]


def struct_of(rows):
    """The struct that a table of fields describes; its offsets must be running sums."""
    layout, place = "<", 0
    for offset, kind, *_ in rows:
        assert int(offset) == place
        sized = re.fullmatch(r"bytes\[(\d+)\]", kind)
        layout += f"{sized[1]}s" if sized else CODES[kind]
        place += int(sized[1]) if sized else SIZES[kind]
    return layout, place


@pytest.mark.parametrize(
    ("number", "table", "layout", "size"),
    [
        (3, 0, header._LAYOUT, header.HEADER_SIZE),
        (5, 0, frame._LAYOUT, frame.FRAME_HEADER_SIZE),
        (5, 2, dictionaries._LAYOUT, dictionaries.DIRECTORY_SIZE),
        (7, 1, index.FIXED, 36),
        (8, 0, footer._LAYOUT, footer.FOOTER_SIZE),
        (13, 0, ext_trailer._LAYOUT, ext_trailer.TRAILER_SIZE),
        (13, 2, section_table._LAYOUT, ext_trailer.SECTION_ENTRY_SIZE),
        (14, 0, hash_pages._HEADER, hash_pages.PAGE_HEADER_SIZE),
        (15, 0, index_directory._LAYOUT, index_directory.DIRECTORY_ENTRY_SIZE),
        (17, 0, fuse_filter._HEADER, fuse_filter.HEADER_SIZE),
    ],
)
def test_a_table_of_fields_is_the_struct(number, table, layout, size):
    assert (layout.format, size) == struct_of(tables(number)[table])


@pytest.mark.parametrize(
    ("number", "module"), [(3, header), (5, frame), (8, footer), (13, ext_trailer), (14, hash_pages)]
)
def test_magic_and_version_are_those_documented(number, module):
    rows = {row[2]: row[3] for row in tables(number)[0]}
    assert rows["magic"] == f"`{module.MAGIC.decode()}`"
    assert int(rows.get("version", 1)) == getattr(module, "VERSION", 1)


def test_fields_have_the_names_of_the_code():
    assert [row[2] for row in tables(5)[0]][1:] == list(frame.FrameHeader.__dataclass_fields__)
    assert [row[2] for row in tables(7)[1]] == list(index.IndexEntry._fields)[1:]
    assert [row[2] for row in tables(8)[0]][3:] == list(footer.Footer.__dataclass_fields__)
    assert [row[2] for row in tables(13)[0]][3:-1] == list(ext_trailer.ExtTrailer.__dataclass_fields__)
    assert [row[2] for row in tables(13)[2]] == list(section_table.Section.__dataclass_fields__)


def test_kinds_and_features_are_those_of_the_code():
    features = {name.upper(): int(value) for value, name, _ in tables(13)[1]}
    assert features == {feature.name: feature.value for feature in ext_trailer.Feature}
    kinds = {name: int(value) for value, name, *_ in tables(13)[3]}
    assert kinds == {kind.name: kind.value for kind in section_table.SectionKind}


def test_a_record_is_laid_out_as_documented():
    place = 0
    found = []
    for offset, kind, field, _ in tables(14)[1]:
        assert int(offset) == place
        place += int(kind[6:-1]) if kind.startswith("bytes") else SIZES[kind]
        found.append((field, int(offset), place))
    assert place == hash_pages.RECORD_SIZE
    values = {"offset": 0x123456789ABC, "length": 0xDEF0123456, "proof": 0x11223344, "ordinal": 0x55667788}
    record = hash_pages.encode_record(b"k" * 12, flags=0x5, slot=0xA, **values)
    for field, start, stop in found[1:]:
        expected = values.get(field, 0xA5)
        assert int.from_bytes(record[start:stop], "little") == expected, field
    assert hash_pages.decode_record(record, 0) == hash_pages.Record(flags=5, slot=10, **values)


def test_metadata_keys_are_those_of_the_code():
    format_keys, system_keys = tables(6)
    assert {row[0].strip("`") for row in format_keys} == metadata.RESERVED_KEYS
    documented = [row[0].strip("`") for row in system_keys]
    assert documented == list(system_metadata.SystemMetadata.__dataclass_fields__)


def test_codecs_and_the_limits_of_the_writer_are_those_of_the_code():
    assert [row[0] for row in tables(5)[1]] == [
        str(compression.CODEC_RAW),
        str(compression.CODEC_ZSTD),
        f"{compression.CODEC_DICTIONARY_MIN} to {compression.CODEC_MAX}",
    ]
    magic, count, *_ = tables(5)[2]
    assert magic[3] == f"`{dictionaries.MAGIC.decode()}`"
    assert count[3].startswith(f"1 to {dictionaries.DICTIONARY_COUNT_MAX};")
    text = section(5)
    assert f"less than {compressor.GAIN_MIN:.0%}".replace("%", " %") in text
    assert f"at most {compressor.SHORT_MAX} bytes" in text
    assert f"longer than {BLOCK_SIZE} bytes" in text
    assert compressor.LONG_GAIN_MIN == 0.5
    assert f"at least {compressor.SAMPLE_COUNT_MIN} files" in text
    assert f"at most 1/{compressor.DICTIONARY_SHARE} of" in text
    assert f"{compressor.DICTIONARY_LENGTH_WRITTEN_MAX >> 10} KiB" in text


def test_flags_are_those_of_the_code():
    documented = {name: int(value) for value, name, _ in tables(7)[2]}
    assert documented == {
        "external": index.FLAG_EXTERNAL,
        "compressed": index.FLAG_COMPRESSED,
        "encrypted": index.FLAG_ENCRYPTED,
        "deleted": index.FLAG_DELETED,
    }


def test_limits_are_those_of_the_code():
    assert [int(value) for _, value, _ in tables(11)[0]] == [
        index.NAME_LENGTH_MAX,
        metadata.METADATA_LENGTH_MAX,
        metadata.METADATA_LENGTH_READ_MAX,
        frame.STORED_LENGTH_MAX,
        footer.INDEX_LENGTH_MAX,
        system_metadata.BLOCK_SIZE_MIN,
        system_metadata.BLOCK_SIZE_MAX,
        BLOCK_SIZE,
        compression.COMPRESSED_RAW_LENGTH_MAX,
        compression.DICTIONARY_LENGTH_MAX,
        ext_trailer.SECTION_COUNT_MAX,
        names.DIRECTORY_SIZE_MAX,
        locate.META_RUN_MAX,
    ]
    assert f"at most {PAGES_LAST_MAX} bytes" in DOCUMENT
    assert f"length of {hash_pages.LENGTH_CHECK_INDEX}" in DOCUMENT
    assert footer.INDEX_ENTRY_SIZE_MIN == index.ENTRY_SIZE_MIN


def listing(layout, first=0):
    """The bytes of a listing; its offsets must be running sums."""
    content = bytearray()
    for line in re.search(rf"^```hex {layout}\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)[
        1
    ].splitlines():
        zeros = re.match(r" *(\d+)  00 x (\d+)", line)
        offset, listed = re.match(r" *(\d+)  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:   | x )", line).groups()
        assert int(offset) == first + len(content), line
        content += bytes(int(zeros[2])) if zeros else bytes.fromhex(listed)
    return bytes(content)


@pytest.mark.parametrize("layout", ["framed", "v1"])
def test_the_worked_example_is_what_the_writer_makes(layout, tmp_path):
    target = io.BytesIO()
    with DesWriter(target, layout=layout, ext=False) as writer:
        writer.add_file("a.txt", b"hello", metadata={"k": "v"})
    assert listing(layout) == target.getvalue()
    assert f"`{layout}`, {len(target.getvalue())} bytes:" in DOCUMENT
    path = tmp_path / "c.des"
    path.write_bytes(listing(layout))
    with DesReader(path) as reader:
        assert reader.get_file("a.txt") == b"hello"
        assert reader.get_meta("a.txt").user == {"k": "v"}


def test_the_worked_example_of_ext_is_what_the_writer_makes():
    target = io.BytesIO()
    with DesWriter(target, digest=True, container_id=CONTAINER_ID) as writer:
        writer.add_file("a.txt", b"hello", metadata={"k": "v"})
    assert listing("framed")[:119] + listing("ext", 119) == target.getvalue()
    assert f"{len(target.getvalue())} bytes" in section(21)
    assert CONTAINER_ID in section(21)


def test_every_module_cites_a_section_that_exists():
    titles = re.findall(r"^## (\d+)\. (.*)$", DOCUMENT, re.MULTILINE)
    assert [int(number) for number, _ in titles] == list(range(1, len(titles) + 1))
    root = Path(__file__).parents[3] / "des"
    for path in root.rglob("*.py"):
        for number in re.findall(r"docs/format\.md, section (\d+)", path.read_text(encoding="utf-8")):
            assert 1 <= int(number) <= len(titles), path
