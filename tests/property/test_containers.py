"""Whatever is written reads back, in both layouts, through both readers."""

import io
from dataclasses import dataclass
from typing import Any

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from des.core import DesReader, DesWriter, S3DesReader
from des.core.coalesce import FetchedRanges, join_ranges
from des.format.byte_range import ByteRange
from des.format.layout import Layout
from des.format.metadata import RESERVED_KEYS
from des.format.system_metadata import SystemMetadata
from des.storage.memory import MemoryObjectStore
from des.testing.object_store_suite import put


@dataclass
class File:
    name: str
    data: bytes
    metadata: dict[str, Any]
    content_type: str
    checksummed: bool
    external: bool
    chunk: int | None


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
files = st.lists(
    st.builds(
        File,
        name=text.filter(bool),
        data=st.binary(max_size=300),
        metadata=st.dictionaries(text.filter(lambda key: key not in RESERVED_KEYS), json_values, max_size=3),
        content_type=text,
        checksummed=st.booleans(),
        external=st.booleans(),
        chunk=st.none() | st.integers(1, 50),
    ),
    max_size=8,
    unique_by=lambda file: file.name,
)


def write(files: list[File], layout: Layout) -> tuple[bytes, dict[str, bytes]]:
    """Return a container and its external objects."""
    target = io.BytesIO()
    objects: dict[str, bytes] = {}
    with DesWriter(target, layout=layout) as writer:
        for file in files:
            crc32c = google_crc32c.value(file.data)
            system = SystemMetadata(
                crc32c=crc32c if file.checksummed else None, content_type=file.content_type
            )
            if file.external:
                key = f"big/{len(objects)}"
                objects[key] = file.data
                writer.add_external(
                    file.name, size=len(file.data), external_key=key, metadata=file.metadata, system=system
                )
            elif file.chunk is not None and (file.checksummed or layout is Layout.V1):
                step = file.chunk
                chunks = (file.data[start : start + step] for start in range(0, len(file.data), step))
                writer.add_file(file.name, chunks, size=len(file.data), metadata=file.metadata, system=system)
            else:
                writer.add_file(file.name, file.data, metadata=file.metadata, system=system)
    return target.getvalue(), objects


@pytest.mark.parametrize("layout", Layout)
@settings(max_examples=60, deadline=None)
@given(files=files)
def test_a_local_container_reads_back(layout, files, tmp_path_factory):
    container, objects = write(files, layout)
    path = tmp_path_factory.mktemp("containers") / "c.des"
    path.write_bytes(container)
    with DesReader(path, external=objects.__getitem__) as reader:
        assert [stored.name for stored in reader] == [file.name for file in files]
        if files:
            assert reader.footer.layout is layout
        for file in files:
            stored = reader.stat(file.name)
            assert reader.get_file(file.name) == file.data
            assert stored.metadata.user == file.metadata
            assert list(stored.metadata.user) == list(file.metadata)
            assert stored.metadata.system.content_type == file.content_type
            framed = layout is Layout.FRAMED and not file.external
            if framed or file.checksummed:
                assert stored.crc32c == google_crc32c.value(file.data)
            for offset in {0, len(file.data) // 2, len(file.data)}:
                assert reader.get_range(file.name, offset, 7) == file.data[offset : offset + 7]
        assert reader.list_files() == sorted(file.name for file in files)


@pytest.mark.parametrize("layout", Layout)
@settings(max_examples=60, deadline=None)
@given(files=files, gap=st.integers(0, 400), request_size=st.integers(1, 2000), tail_size=st.integers(1, 900))
async def test_a_container_in_an_object_store_reads_back(layout, files, gap, request_size, tail_size):
    container, objects = write(files, layout)
    store = MemoryObjectStore()
    await put(store, "c.des", container)
    for key, data in objects.items():
        await put(store, key, data)
    reader = S3DesReader(store, "c.des", tail_size=tail_size)
    batch = await reader.get_files_batch(
        [file.name for file in reversed(files)], gap=gap, request_size=request_size
    )
    assert batch == {file.name: file.data for file in files}
    for file in files:
        assert await reader.get_file(file.name) == file.data
        assert (await reader.get_meta(file.name)).user == file.metadata
        middle = len(file.data) // 2
        assert await reader.get_range(file.name, middle, 9) == file.data[middle : middle + 9]


@settings(max_examples=30, deadline=None)
@given(files=files)
def test_the_same_files_give_the_same_bytes(files):
    for layout in Layout:
        assert write(files, layout) == write(files, layout)


ranges = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 60)).map(lambda pair: ByteRange(pair[0], sum(pair)))
)


@given(wanted=ranges, gap=st.integers(0, 30), size_max=st.integers(1, 120))
def test_joined_ranges_hold_every_range_wanted(wanted, gap, size_max):
    content = bytes(i % 251 for i in range(300))
    joined = join_ranges(wanted, gap=gap, size_max=size_max)
    longest = max((one.size for one in wanted), default=0)
    assert all(group.size <= max(size_max, longest) for group in joined)
    fetched = {group: content[group.start : group.stop] for group in joined}
    source = FetchedRanges(joined, fetched)
    for one in wanted:
        assert source.read(one) == content[one.start : one.stop]
