"""Batches while their server leaves: it does not wait for their end, and their client begins them again."""

import os
import threading

import grpc
import pytest
from des_client import AsyncDesClient, DesClient, RetryConfig
from des_client.errors import from_call
from des_proto.v1.file_service_pb2 import BatchReadFilesRequest, BatchWriteFilesRequest, ReadItem
from des_proto.v1.file_service_pb2_grpc import FileServiceStub

from tests.conftest import ServerProcess

PATIENT = RetryConfig(attempts=1_000, backoff_max_s=0.5)
NEVER_S = 3600
"""A drain that waited for a batch to end would last this long, and the test would not."""


@pytest.fixture
def server(tmp_path):
    environment = {"DES_DRAIN_NOTICE_S": "0", "DES_DRAIN_S": str(NEVER_S)}
    process = ServerProcess(tmp_path / "data", tmp_path / "server.log", environment=environment)
    try:
        yield process.start()
    finally:
        if process.alive():
            process.kill()


def restart(server):
    assert server.terminate() == 0
    server.start()


@pytest.mark.parametrize("channels", [1, 2])
def test_put_many_goes_on_with_the_next_process(server, channels):
    contents = [b"%d" % number * 100 for number in range(20_000)]
    with DesClient(server.address, channels=channels, retry=PATIENT, timeout_s=60) as des:
        names = []
        for outcome in des.put_many(contents):
            names.append(outcome.unwrap().file.name)
            if outcome.index in (3_000, 9_000):
                restart(server)
        assert [one.unwrap() for one in des.get_many(names)] == contents
        assert sorted(des.iter_names()) == sorted(names)


async def test_the_asyncio_client_does_the_same(server):
    contents = [b"%d" % number * 100 for number in range(20_000)]
    async with AsyncDesClient(server.address, retry=PATIENT, timeout_s=60) as des:
        names = []
        async for outcome in des.put_many(contents):
            names.append(outcome.unwrap().file.name)
            if outcome.index == 3_000:
                restart(server)
        got = []
        async for outcome in des.get_many(names):
            got.append(outcome.unwrap())
            if outcome.index == 3_000:
                restart(server)
        assert got == contents
        assert sorted([name async for name in des.iter_names()]) == sorted(names)


def test_get_many_whose_caller_is_slow_does_not_hold_the_server(server):
    contents = [os.urandom(200_000) for _ in range(300)]
    with DesClient(server.address, retry=PATIENT, timeout_s=60) as des:
        names = [one.unwrap().file.name for one in des.put_many(contents)]
        got = []
        for outcome in des.get_many(names):
            got.append(outcome.unwrap())
            if outcome.index == 10:
                restart(server)  # nothing is read meanwhile: the server's messages have nowhere to go
        assert got == contents


def test_a_stream_of_writes_ends_with_every_item_taken_answered(server):
    message = BatchWriteFilesRequest()
    for index in range(3):
        item = message.items.add(index=index)
        item.spec.SetInParent()
        item.chunk.data = b"%d" % index
    message.items[2].more = True
    with grpc.insecure_channel(server.address) as channel:
        # As it stands, with neither more items nor an end.
        requests = Endless([message])
        answers = FileServiceStub(channel).BatchWriteFiles(requests)
        results = list(next(answers).results)
        assert sorted(one.index for one in results) == [0, 1]
        assert server.terminate() == 0
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        requests.end()
    error = from_call(caught.value)
    assert (error.code, error.reason, error.retry_after_s) == ("UNAVAILABLE", "SHUTTING_DOWN", 1.0)
    server.start()
    with DesClient(server.address) as des:
        assert [des.get(one.file.name) for one in results] == [b"%d" % one.index for one in results]
        assert len(list(des.iter_names())) == 2


def test_a_reader_that_never_reads_is_cut_off(server):
    with DesClient(server.address) as des:
        names = [one.unwrap().file.name for one in des.put_many([bytes(1_000_000)] * 40)]
    with grpc.insecure_channel(server.address) as channel:
        request = BatchReadFilesRequest(items=[ReadItem(name=name) for name in names])
        answers = FileServiceStub(channel).BatchReadFiles(request)
        assert next(answers).parts
        assert server.terminate() == 0
        with pytest.raises(grpc.RpcError) as caught:
            list(answers)
    assert from_call(caught.value).retryable


class Endless:
    """Messages, then silence until it is ended."""

    def __init__(self, messages):
        self._messages = iter(messages)
        self._ended = threading.Event()

    def __iter__(self):
        return self

    def __next__(self):
        for message in self._messages:
            return message
        self._ended.wait(60)
        raise StopIteration

    def end(self):
        self._ended.set()
