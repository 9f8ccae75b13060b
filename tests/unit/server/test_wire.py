"""What is put together byte by byte is what protobuf itself would write."""

import pytest
from des_proto.v1.file_service_pb2 import BatchReadFilesResponse
from des_proto.v1.types_pb2 import FileInfo as FileInfoMessage
from des_server import convert, wire
from des_server.status import item_status
from hypothesis import given, settings
from hypothesis import strategies as st

from des.errors import NotFoundError
from des.files import FileInfo, FileState, Placement

NUMBERS = st.integers(0, 2**62)
TEXTS = st.text(max_size=20) | st.just("x" * 300)
INFOS = st.builds(
    FileInfo,
    name=TEXTS,
    day=st.just("20261123"),
    shard=st.integers(0, 2**32 - 1),
    size=NUMBERS,
    crc32c=st.integers(0, 2**32 - 1),
    content_type=TEXTS,
    metadata=st.dictionaries(TEXTS, TEXTS, max_size=3),
    state=st.sampled_from(FileState),
    created_ms=st.integers(0, 2**45),
    sealed_ms=st.none() | st.integers(0, 2**45),
    placement=st.none() | st.builds(Placement, TEXTS, NUMBERS, NUMBERS, st.none() | TEXTS),
    deleted_ms=st.none(),  # what is sent was not deleted
)


@settings(max_examples=50, deadline=None)
@given(INFOS)
def test_what_is_known_of_a_file(info):
    expected = convert.file_to_wire(info, full=True)
    assert FileInfoMessage.FromString(wire.file_info(info)) == expected
    assert len(wire.file_info(info)) == expected.ByteSize()


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.none() | INFOS,
    NUMBERS,
    st.binary(max_size=400),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_a_part_of_a_file(index, info, offset, data, crc32c, last):
    encoded = b"" if info is None else wire.file_info(info)
    pieces, size = wire.file_part(
        index=index, info=encoded, offset=offset, data=data, crc32c=crc32c, last=last
    )
    made = b"".join(pieces)
    assert len(made) == size
    expected = BatchReadFilesResponse()
    part = expected.parts.add(index=index, offset=offset, last=last)
    if info is not None:
        convert.write_file(part.file, info, full=True)
    part.chunk.data = data
    part.chunk.crc32c = crc32c
    assert BatchReadFilesResponse.FromString(made) == expected
    assert size == expected.ByteSize()


def test_a_failed_item():
    status = item_status(NotFoundError("no file", name="x"))
    pieces, size = wire.file_part(
        index=300, info=b"", offset=0, data=b"", crc32c=0, last=True, status=status.SerializeToString()
    )
    expected = BatchReadFilesResponse()
    expected.parts.add(index=300, status=status, last=True)
    assert BatchReadFilesResponse.FromString(b"".join(pieces)) == expected
    assert size == expected.ByteSize()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, 2097151, 2097152, 2**63 - 1])
def test_numbers(value):
    expected = FileInfoMessage(size_bytes=value).SerializeToString()[1:]
    assert wire.varint(value) == (expected or b"\x00")
