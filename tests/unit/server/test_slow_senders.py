"""Senders that trickle lose their streams; those that owe nothing may take their time."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import BatchWriteFilesRequest, FileSpec, PutFileRequest, WriteItem
from des_server.credits import ByteCredits
from des_server.errors import StalledError
from des_server.leaving import Leaving
from des_server.servicers import batch_write, put_file
from prometheus_client import CollectorRegistry

from des.config import LimitSettings
from des.files import Durability, FileInfo, FileState
from des.monitoring.metrics import NodeMetrics
from des.node import PutResult

LIMITS = LimitSettings(stall_s=60, bytes_per_s_min=1024)


@dataclass
class Stream:
    """Messages, each of which is waited for: the clock is moved, nobody sleeps."""

    messages: list
    wait_s: float
    now: float = 0.0
    count: int = 0
    sent: list = field(default_factory=list)

    async def read(self):
        self.now += self.wait_s
        self.count += 1
        return self.messages.pop(0) if self.messages else None

    async def write(self, message):
        self.sent.append(message)


class Node:
    """Takes every file and remembers whether it was given up."""

    def __init__(self):
        self.aborted = 0

    async def begin_put(self, spec):
        return self

    async def write(self, data):
        pass

    async def abort(self):
        self.aborted += 1

    async def finish(self, crc32c, sha256):
        return stored("A")

    async def put_many(self, items):
        return [stored(item.spec.name) for item in items]


def stored(name):
    file = FileInfo(name, "20261123", 0, 1, 0, "", {}, FileState.OPEN, 0)
    return PutResult(file, already_existed=False, durability=Durability.LOCAL)


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def run(node, monkeypatch):
    async def run(kind, module, messages, wait_s):
        stream = Stream(messages, wait_s)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: stream.now))
        lending = ByteCredits(1 << 20, wait_s=1)
        parts = (node, LIMITS, lending, NodeMetrics(CollectorRegistry()))
        try:
            if kind is put_file.PutFile:
                await kind(*parts).run(stream)
            else:
                await kind(*parts, Leaving()).run(stream, stream)
        finally:
            assert lending.lent == 0
        return stream

    return run


def parts(count, size):
    yield PutFileRequest(spec=FileSpec(name="A"))
    for number in range(count):
        chunk = types_pb2.DataChunk(data=bytes(size))
        yield PutFileRequest(chunk=chunk, write_offset=number * size, finish=number == count - 1)


async def test_a_file_that_trickles_is_given_up(run, node):
    with pytest.raises(StalledError, match="less than 1024 bytes a second"):
        await run(put_file.PutFile, put_file, list(parts(100, 1)), 1.0)
    assert node.aborted


async def test_a_file_at_the_floor_is_taken(run):
    await run(put_file.PutFile, put_file, list(parts(1000, 1024)), 1.0)


def batch(index, *, more=False, first=True):
    spec = FileSpec(name=f"F{index}") if first else None
    item = WriteItem(index=index, spec=spec, chunk=types_pb2.DataChunk(data=b"x"), more=more)
    return BatchWriteFilesRequest(items=[item])


async def test_a_batch_may_take_its_time_between_whole_files(run):
    stream = await run(batch_write.BatchWrite, batch_write, [batch(n) for n in range(100)], 30.0)
    assert len(stream.sent) == 100


async def test_a_batch_may_not_take_its_time_inside_a_file(run, node):
    messages = [batch(7, more=True, first=n == 0) for n in range(100)]
    with pytest.raises(StalledError, match="less than 1024 bytes a second"):
        await run(batch_write.BatchWrite, batch_write, messages, 1.0)
    assert node.aborted
