"""An S3 server that answers 503 to everything for ten minutes, told in sixty rounds: nothing is deleted.

Starts, recovery, fsck and the collection of garbage all go through the fault proxy to a real server. There is
garbage that may go, so that a collection that mistook an answer would have something to delete.
"""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import google_crc32c
import pytest

from des.cli.store_access import StoreAccess, opened_store
from des.config import S3Settings, Settings, load_settings
from des.db.catalog import ContainerRow, ContainerState
from des.errors import DesError, UnavailableError
from des.files import FileSpec
from des.node import Node
from des.packer.object_metadata import EPOCH
from des.storage import S3StorageBackend
from des.storage.bytes_body import BytesBody
from des.testing.fault_proxy import Fault, Rule, S3FaultProxy
from des.testing.s3_requests import Operation
from des.testing.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, temporary_s3
from des.upkeep import Depth, GarbageCollector, GcLimits, fsck
from des.upkeep.fsck import Kind
from des.upkeep.unfinished import recover

ROUNDS = 60
STARTS = 4
"""Of a node meanwhile."""
HASTY = GcLimits(grace_ms=0, unnamed_ms=0)
"""Deletes what may go at once: nothing but the outage holds it back."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    with temporary_s3(tmp_path_factory.mktemp("s3")) as (settings, _):
        yield settings


@dataclass
class World:
    settings: Settings
    proxy: S3FaultProxy
    direct: S3StorageBackend
    """The same store, past the proxy."""
    files: dict[str, bytes]

    async def objects(self) -> dict[str, str]:
        found = {info.key: info.etag async for info in self.direct.list("")}
        return {key: etag for key, etag in found.items() if not key.startswith("des-probe/")}

    async def collect(self, access: StoreAccess, *, apply: bool = True) -> set[str]:
        collector = GarbageCollector(
            catalog=access.catalog,
            store=access.store,
            clock=access.clock,
            claim=access.claim,
            shard_bits=self.settings.shard_bits,
            limits=HASTY,
        )
        report = await collector.collect(apply=apply)
        return {one.key for one in (report.deleted if apply else report.doomed)}


@pytest.fixture
async def world(tmp_path: Path, server: S3Settings) -> AsyncIterator[World]:
    prefix = uuid4().hex
    async with S3FaultProxy(server.endpoint_url, keys=(ACCESS_KEY, SECRET_KEY)) as proxy:
        settings = load_settings(
            data_dir=tmp_path / "node",
            object_store=f"s3://{BUCKET}/{prefix}",
            s3=server.model_copy(update={"endpoint_url": proxy.url, "attempts": 1}),
            shard_bits=0,
            big_file_bytes=1 << 20,
        )
        direct = S3StorageBackend(BUCKET, prefix=prefix, settings=server)
        yield World(settings, proxy, direct, {})
        await direct.close()


async def fill(world: World) -> tuple[set[str], list[ContainerRow]]:
    """Return the keys of what may go, and the rows of what may not."""
    rng = random.Random(9)
    node = await Node.open(world.settings)
    condemned = b"in a container that was replaced"
    await node.put_bytes(FileSpec(), condemned, google_crc32c.value(condemned))
    await node.seal_shard(0)
    for size in (0, 10, 5000, 70_000):
        data = rng.randbytes(size)
        name = (await node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file.name
        world.files[name] = data
    upload = await node.begin_put(FileSpec())
    big = rng.randbytes((1 << 20) + 5)
    await upload.write(big)
    world.files[(await upload.finish(None)).file.name] = big
    await node.seal_shard(0)
    await node.close()
    async with opened_store(world.settings, lock=True) as access:
        retired, *kept = await access.catalog.containers(state=ContainerState.STORED)
        claim = access.claim(retired.run)
        assert claim is not None
        await access.catalog.retire_containers([retired.container_id], claim)
        # A copy of an earlier epoch that no row names, all of whose files are recorded.
        info = await world.direct.head(kept[0].key)
        data = await world.direct.get_range(info.key, 0, info.size)
        copy = kept[0].key.replace(kept[0].container_id, "0193a000-0000-7000-8000-0000000000ff")
        await world.direct.create(copy, BytesBody(data), metadata={**info.metadata, EPOCH: "0"})
        await world.collect(access, apply=False)  # the first sighting
    return {retired.key, copy}, kept


@pytest.mark.timeout(400)
async def test_sixty_rounds_of_503_on_everything_delete_nothing(world: World) -> None:
    doomed, kept = await fill(world)
    before = await world.objects()
    for number in range(STARTS):
        fail_all(world, number)
        with suppress(DesError):
            await (await Node.open(world.settings)).close()
        world.proxy.clear()
    async with opened_store(world.settings, lock=True) as access:
        for number in range(ROUNDS):
            rule = fail_all(world, number)
            with pytest.raises(UnavailableError):
                await world.collect(access)
            with suppress(UnavailableError):
                report = await recover(access.catalog, access.store, claim=access.claim, apply=True)
                assert report.adopted == []
            with suppress(UnavailableError):
                findings = (await fsck(access.catalog, access.store, depth=Depth.OBJECT)).findings
                assert {one.kind for one in findings} <= {Kind.UNDECIDED}
            assert rule.hits
            world.proxy.clear()
            assert before == await world.objects()
    await check(world, before, doomed, kept)


def fail_all(world: World, number: int) -> Rule:
    return world.proxy.inject((Fault.ERROR_503_BEFORE, Fault.ERROR_503_AFTER)[number % 2])


@pytest.mark.timeout(400)
async def test_503_on_any_one_operation_deletes_nothing_but_what_may_go(world: World) -> None:
    """Now and then an answer comes: each operation fails alone, once early and once late."""
    doomed, kept = await fill(world)
    before = await world.objects()
    async with opened_store(world.settings, lock=True) as access:
        for operation in (Operation.LIST, Operation.HEAD, Operation.RANGE, Operation.TAIL, Operation.DELETE):
            for fault in (Fault.ERROR_503_BEFORE, Fault.ERROR_503_AFTER):
                world.proxy.inject(fault, operation)
                with suppress(UnavailableError):
                    await world.collect(access)
                world.proxy.clear()
                left = await world.objects()
                assert before.keys() - left.keys() <= doomed
    await check(world, before, doomed, kept)


async def check(world: World, before: dict[str, str], doomed: set[str], kept: list[ContainerRow]) -> None:
    """With the store back, exactly what may go does, and every file reads."""
    async with opened_store(world.settings, lock=True) as access:
        await world.collect(access)
        left = await world.objects()
        assert (before.keys() - left.keys(), left.keys() - before.keys()) == (doomed, set())
        stored = await access.catalog.containers(state=ContainerState.STORED)
        assert {row.key for row in kept} == {row.key for row in stored}
    node = await Node.open(world.settings)
    for name, data in world.files.items():
        assert await (await node.open_file(name)).read_whole() == data
    await node.close()
