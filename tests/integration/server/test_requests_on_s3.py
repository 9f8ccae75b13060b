"""What one GetFile costs an S3 server in requests: three where nothing is known, two, one (DESIGN §5)."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import google_crc32c
import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import FileSpec, GetFileRequest, PutFileRequest
from des_proto.v1.file_service_pb2_grpc import FileServiceStub

from des.config import S3Settings, Settings, load_settings
from des.core import S3DesReader
from des.files import FileSpec as AnySpec
from des.node import Node
from des.storage import open_store
from des.testing.fault_proxy import S3FaultProxy
from des.testing.s3_requests import Operation
from des.testing.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, temporary_s3
from tests.integration.server.one_node import serving

FILES = 4000
"""So many that the pages of their names are longer than the tail that is read first."""
SIZE = 500
PAGES = 8 << 10
"""A name's page and the next one."""
HEAD_BYTES_MAX = 300
"""Of a frame, around a file's bytes."""
TAIL = 64 << 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    with temporary_s3(tmp_path_factory.mktemp("s3")) as (settings, _):
        yield settings


@pytest.fixture
async def proxy(server: S3Settings) -> AsyncIterator[S3FaultProxy]:
    async with S3FaultProxy(server.endpoint_url, keys=(ACCESS_KEY, SECRET_KEY)) as proxy:
        yield proxy


@pytest.fixture
def settings(tmp_path: Path, server: S3Settings, proxy: S3FaultProxy) -> Settings:
    return load_settings(
        data_dir=tmp_path / "node",
        listen="127.0.0.1:0",
        http_listen="",
        object_store=f"s3://{BUCKET}/{tmp_path.name}",
        s3=server.model_copy(update={"endpoint_url": proxy.url}),
        shard_bits=0,
    )


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[tuple[Node, FileServiceStub]]:
    async with (
        serving(settings) as (node, server),
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        yield node, FileServiceStub(channel)


async def read(files: FileServiceStub, name: str) -> bytes:
    return b"".join([message.chunk.data async for message in files.GetFile(GetFileRequest(name=name))])


async def filled(settings: Settings) -> dict[str, bytes]:
    """Return the files of one sealed container."""
    rng = random.Random(1)
    kept = {}
    async with reading(settings) as (node, files):
        data = rng.randbytes(SIZE)
        message = PutFileRequest(
            spec=FileSpec(size_bytes=SIZE), chunk=types_pb2.DataChunk(data=data), finish=True
        )
        kept[(await files.PutFile(iter([message]))).file.name] = data
        others = [rng.randbytes(SIZE) for _ in range(FILES)]
        await asyncio.gather(*(node.put_bytes(AnySpec(), one, google_crc32c.value(one)) for one in others))
        await node.seal_shard(0)
    return kept


def cost(proxy: S3FaultProxy) -> tuple[list[Operation], int]:
    """Return which requests for containers there were since the last call, and the bytes they brought."""
    found = [(operation, size) for operation, key, size in proxy.answered if key.endswith(".des")]
    proxy.answered.clear()
    return [operation for operation, _ in found], sum(size for _, size in found)


async def test_a_get_is_two_requests_with_the_catalogs_geometry_and_one_with_its_page(
    settings: Settings, proxy: S3FaultProxy
) -> None:
    kept = await filled(settings)
    name = next(iter(kept))
    async with reading(settings) as (_, files):  # which knows the catalog, and no page
        cost(proxy)
        assert await read(files, name) == kept[name]
        requests, size = cost(proxy)
        assert requests == [Operation.RANGE, Operation.RANGE]
        assert PAGES // 2 + SIZE <= size <= PAGES + SIZE + HEAD_BYTES_MAX
        cost(proxy)
        assert await read(files, name) == kept[name]
        requests, size = cost(proxy)
        assert requests == [Operation.RANGE]
        assert SIZE <= size <= SIZE + HEAD_BYTES_MAX


async def test_a_bare_object_is_three_requests_and_then_one(settings: Settings, proxy: S3FaultProxy) -> None:
    kept = await filled(settings)
    name = next(iter(kept))
    store = open_store(settings.object_store, settings)
    [key] = [info.key async for info in store.list("") if info.key.endswith(".des")]
    reader = S3DesReader(store, key)
    cost(proxy)
    assert await reader.get_file(name) == kept[name]
    requests, size = cost(proxy)
    assert requests == [Operation.TAIL, Operation.RANGE, Operation.RANGE]
    assert size <= TAIL + PAGES + SIZE + HEAD_BYTES_MAX
    cost(proxy)
    assert await reader.get_file(name) == kept[name]
    assert cost(proxy)[0] == [Operation.RANGE]
    await store.close()
