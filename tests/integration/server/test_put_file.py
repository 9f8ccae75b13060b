import asyncio

import google_crc32c
import grpc
import pytest

from des_proto.v1 import file_service_pb2 as pb
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2_grpc import FileServiceStub


@pytest.fixture
def files(channel):
    return FileServiceStub(channel)


async def test_a_file_of_one_message_is_stored(files, double):
    data = b"hello"
    answer = await files.PutFile(
        iter(
            [
                pb.PutFileRequest(
                    spec=pb.FileSpec(name="A", metadata={"k": "v"}), chunk={"data": data}, finish=True
                )
            ]
        )
    )
    assert answer.file.size_bytes == 5
    assert double.files["A"][1] == data
