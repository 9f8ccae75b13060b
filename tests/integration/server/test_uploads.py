"""Resumable uploads over a real server, which is stopped and started in between."""

import contextlib
import os

import google_crc32c
import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import (
    CancelUploadRequest,
    FileSpec,
    GetFileRequest,
    GetUploadStatusRequest,
    PutFileRequest,
    StartUploadRequest,
)
from des_proto.v1.file_service_pb2_grpc import FileServiceStub

from des.config import Settings
from tests.integration.server.one_node import serving

MIB = 1 << 20


@contextlib.asynccontextmanager
async def uploading(tmp_path):
    settings = Settings(data_dir=tmp_path, listen="127.0.0.1:0", http_listen="", shard_bits=1)
    async with (
        serving(settings) as (_, server),
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        yield FileServiceStub(channel)


def parts(upload_id, data, start, stop, *, finish=False, chunk=MIB, **checksums):
    """Return the messages that send `data[start:stop]`."""
    messages = [
        PutFileRequest(
            upload_id=upload_id if at == start else None,
            write_offset=at,
            chunk=types_pb2.DataChunk(data=data[at : min(stop, at + chunk)]),
        )
        for at in range(start, max(stop, start + 1), chunk)
    ]
    messages[-1].finish = finish
    if checksums:
        messages[-1].checksums.CopyFrom(types_pb2.Checksums(**checksums))
    return iter(messages)


async def status(files, upload_id):
    return await files.GetUploadStatus(GetUploadStatusRequest(upload_id=upload_id))


async def test_a_file_arrives_in_three_streams_with_restarts_between_them(tmp_path):
    data = os.urandom(5 * MIB + 3)
    async with uploading(tmp_path) as files:
        begun = await files.StartUpload(StartUploadRequest(spec=FileSpec(size_bytes=len(data))))
        assert begun.expire_time.seconds > 0
        upload_id = begun.upload_id
        answer = await files.PutFile(parts(upload_id, data, 0, 2 * MIB))
        assert answer.persisted_size == 2 * MIB
    async with uploading(tmp_path) as files:
        assert (await status(files, upload_id)).persisted_size == 2 * MIB
        answer = await files.PutFile(parts(upload_id, data, 2 * MIB, 4 * MIB))
        assert answer.persisted_size == 4 * MIB
    async with uploading(tmp_path) as files:
        answer = await files.PutFile(
            parts(upload_id, data, 4 * MIB, len(data), finish=True, crc32c=google_crc32c.value(data))
        )
        name = answer.file.name
        assert not answer.already_existed
        assert (await status(files, upload_id)).file.size_bytes == len(data)
        again = await files.PutFile(parts(upload_id, data, 0, 1))
        assert (again.file.name, again.already_existed) == (name, True)
        got = [part.chunk.data async for part in files.GetFile(GetFileRequest(name=name))]
        assert b"".join(got) == data


async def test_what_breaks_the_rules_is_refused_and_what_was_kept_stays(tmp_path, refusal):
    async with uploading(tmp_path) as files:
        upload_id = (await files.StartUpload(StartUploadRequest(spec=FileSpec()))).upload_id
        await files.PutFile(parts(upload_id, b"0123456789", 0, 4))
        for messages, code, reason in [
            (parts(upload_id, b"0123456789", 3, 5), grpc.StatusCode.INVALID_ARGUMENT, "OFFSET_MISMATCH"),
            (parts("nobody", b"x", 0, 1), grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND"),
            (
                parts(upload_id, b"0123456789", 4, 10, finish=True, crc32c=1),
                grpc.StatusCode.INVALID_ARGUMENT,
                "UPLOAD_CHECKSUM_MISMATCH",
            ),
        ]:
            async with refusal() as refused:
                await files.PutFile(messages)
            assert (refused().code, refused().reason) == (code, reason)
        assert (await status(files, upload_id)).persisted_size == 10
        answer = await files.PutFile(
            iter([PutFileRequest(upload_id=upload_id, write_offset=10, finish=True)])
        )
        assert answer.file.size_bytes == 10


async def test_a_second_writer_is_told_and_a_broken_first_one_lets_go(tmp_path, refusal):
    async with uploading(tmp_path) as files:
        upload_id = (await files.StartUpload(StartUploadRequest(spec=FileSpec()))).upload_id
        first = files.PutFile()
        await first.write(PutFileRequest(upload_id=upload_id, chunk=types_pb2.DataChunk(data=b"abc")))
        while (await status(files, upload_id)).persisted_size != 3:
            pass
        async with refusal() as refused:
            await files.PutFile(parts(upload_id, b"abc", 0, 3))
        assert (refused().code, refused().reason) == (grpc.StatusCode.ABORTED, "CONCURRENT_UPLOAD")
        first.cancel()
        while True:
            try:
                answer = await files.PutFile(parts(upload_id, b"abcdef", 3, 6, finish=True))
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.ABORTED
        assert answer.file.size_bytes == 6


async def test_a_cancelled_upload_is_gone(tmp_path, refusal):
    async with uploading(tmp_path) as files:
        upload_id = (await files.StartUpload(StartUploadRequest(spec=FileSpec()))).upload_id
        await files.CancelUpload(CancelUploadRequest(upload_id=upload_id))
        async with refusal() as refused:
            await status(files, upload_id)
        assert refused().facts == {"upload_id": upload_id}
        async with refusal() as refused:
            await files.StartUpload(StartUploadRequest())
        assert (refused().reason, refused().facts["field"]) == ("INVALID_FIELD", "spec")


@pytest.mark.parametrize("field", ["spec", "upload_id"])
async def test_a_target_in_a_later_message_is_refused(tmp_path, refusal, field):
    async with uploading(tmp_path) as files:
        upload_id = (await files.StartUpload(StartUploadRequest(spec=FileSpec()))).upload_id
        target = {"spec": FileSpec()} if field == "spec" else {"upload_id": upload_id}
        messages = [PutFileRequest(upload_id=upload_id), PutFileRequest(finish=True, **target)]
        async with refusal() as refused:
            await files.PutFile(iter(messages))
        assert refused().facts["field"] == field
