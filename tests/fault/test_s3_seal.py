"""Seals through a network and a store that fail: each file ends in one right container, none lost or doubled.

A whole node works through the fault proxy. Every fault meets every kind of request that a seal makes, all of
them while it lasts; then the faults end, held requests reach the store late, and the books are compared.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import pytest

from des.config import S3Settings, Settings, load_settings
from des.core import S3DesReader
from des.db.catalog import ContainerState
from des.errors import CorruptError, DesError, UnavailableError
from des.files import FileSpec
from des.node import Node
from des.storage import S3StorageBackend, open_store
from des.storage.object_store import ObjectChangedError
from des.testing.fault_proxy import Fault, S3FaultProxy
from des.testing.object_store_suite import BytesBody
from des.testing.s3_requests import Operation
from des.testing.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, temporary_s3
from des.testing.simulated_clock import SimulatedClock

ROUNDS_MAX = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Settings, bool]]:
    with temporary_s3(tmp_path_factory.mktemp("s3")) as found:
        yield found


def proxied(server: tuple[S3Settings, bool]) -> S3FaultProxy:
    return S3FaultProxy(server[0].endpoint_url, keys=(ACCESS_KEY, SECRET_KEY), verify_checksums=server[1])


def settings_of(folder: Path, prefix: str, s3: S3Settings, proxy: S3FaultProxy) -> Settings:
    hasty = {
        "endpoint_url": proxy.url,
        "attempts": 2,
        "read_timeout_s": 2,
        "deadline_s": 6,
        "upload_bytes_per_s_min": 64 << 20,
    }
    return load_settings(
        data_dir=folder,
        object_store=f"s3://{BUCKET}/{prefix}",
        s3=s3.model_copy(update=hasty),
        shard_bits=0,
        compression="off",
        seal={"retry_s": 0},
        log={"segment_bytes": 16 << 20},
    )


@dataclass
class Store:
    """A node on S3, and what it was given."""

    node: Node
    files: dict[str, bytes]
    rng: random.Random

    async def put(self, *sizes: int) -> None:
        for size in sizes:
            data = self.rng.randbytes(size)
            result = await self.node.put_bytes(FileSpec(), data, google_crc32c.value(data))
            self.files[result.file.name] = data

    async def seal_in_the_end(self) -> None:
        for _ in range(ROUNDS_MAX):
            with suppress(DesError):
                await self.node.seal_shard(0)
                if not self.node._packer._pending:
                    return
        raise AssertionError(f"not sealed in {ROUNDS_MAX} rounds: {self.node._packer.last_error(0)}")

    async def check(self, direct: S3StorageBackend) -> None:
        """Every file reads right and lies in one stored container; no object is there that no row names."""
        for name, data in self.files.items():
            assert await (await self.node.open_file(name)).read_whole() == data
        names: Counter[str] = Counter()
        rows = await self.node._doors.catalog.containers(state=ContainerState.STORED)
        for row in rows:
            reader = S3DesReader(direct, row.key, etag=row.etag)
            names.update(await reader.list_files())
        assert names == dict.fromkeys(self.files, 1)
        objects = {info.key async for info in direct.list("") if info.key.endswith(".des")}
        # An answer to HEAD whose end was cut off shows no identity; that container is abandoned, for GC to
        # remove, and its files are sealed anew.
        abandoned = await self.node._doors.catalog.containers(state=ContainerState.ABANDONED)
        stored = {row.key for row in rows}
        assert stored <= objects <= stored | {row.key for row in abandoned}


async def run_through(
    server: tuple[S3Settings, bool], folder: Path, starting: asyncio.Lock, operation: Operation, *sizes: int
) -> None:
    prefix = f"seal-{operation}"
    async with proxied(server) as proxy:
        settings = settings_of(folder, prefix, server[0], proxy)
        direct = S3StorageBackend(BUCKET, prefix=prefix, settings=server[0])
        async with starting:  # Alembic has one context for a process
            node = await Node.open(settings)
        try:
            store = Store(node, {}, random.Random(operation.value))
            for fault in Fault:
                for _ in range(ROUNDS_MAX):
                    await store.put(*sizes)
                    rule = proxy.inject(fault, operation, key=f"{BUCKET}/{prefix}/20")
                    with suppress(DesError):
                        await node.seal_shard(0)
                    proxy.clear()
                    await store.seal_in_the_end()
                    if rule.hits:  # else a busy machine let an earlier request of the seal run out of time
                        break
                assert rule.hits, f"no seal made a request {operation}"
            await proxy.release()  # what was held lands now, after everything was settled
            await store.check(direct)
        finally:
            await node.close()
            await direct.close()


@pytest.mark.timeout(400)
async def test_every_fault_of_every_request_of_a_seal(
    server: tuple[S3Settings, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of short containers in one request, and of long ones in parts, which go while they are built."""
    monkeypatch.setattr("des.packer.container_builder.STREAMED_FROM", 1 << 20)
    starting = asyncio.Lock()
    await asyncio.gather(
        *(
            run_through(server, tmp_path / operation, starting, operation, 10, 3000)
            for operation in (Operation.CREATE, Operation.HEAD, Operation.RANGE)
        ),
        *(
            run_through(server, tmp_path / operation, starting, operation, 5 << 20, 1000)
            for operation in (Operation.BEGIN, Operation.PART, Operation.COMPLETE)
        ),
    )


async def test_ten_minutes_of_503_on_everything_delete_nothing(
    server: tuple[S3Settings, bool], tmp_path: Path
) -> None:
    clock = SimulatedClock()
    async with proxied(server) as proxy:
        settings = settings_of(tmp_path, "brown-out", server[0], proxy)
        quick = settings.model_copy(update={"s3": settings.s3.model_copy(update={"attempts": 1})})
        direct = S3StorageBackend(BUCKET, prefix="brown-out", settings=server[0])
        node = await Node.open(quick, clock=clock)
        store = Store(node, {}, random.Random(1))
        await store.put(10, 3000)
        await store.seal_in_the_end()
        await store.put(20)
        before = [info async for info in direct.list("")]
        proxy.requests.clear()
        proxy.inject(Fault.ERROR_503_BEFORE)
        with pytest.raises(UnavailableError):
            await node.seal_shard(0)
        await node.close()
        # A start that meets the brown-out goes on with its log and changes nothing in the store.
        for _ in range(3):
            node = await Node.open(quick, clock=clock)
            await node.close()
        proxy.clear()
        node = await Node.open(quick, clock=clock)
        proxy.requests.clear()
        proxy.inject(Fault.ERROR_503_BEFORE)
        for _ in range(60):
            with pytest.raises(DesError):
                await node._packer.step()
            clock.advance(10)
        assert not [key for operation, key in proxy.requests if operation is Operation.DELETE]
        assert [info async for info in direct.list("")] == before
        proxy.clear()
        store.node = node
        await store.seal_in_the_end()
        await store.check(direct)
        await node.close()
        await direct.close()


async def test_a_flipped_byte_is_never_handed_out(server: tuple[S3Settings, bool], tmp_path: Path) -> None:
    async with proxied(server) as proxy:
        node = await Node.open(settings_of(tmp_path, "flipped", server[0], proxy))
        store = Store(node, {}, random.Random(2))
        await store.put(2000)
        await store.seal_in_the_end()
        (name,) = store.files
        proxy.inject(Fault.FLIPPED_RECEIVED, Operation.RANGE)
        with pytest.raises((CorruptError, UnavailableError)):
            await (await node.open_file(name)).read_whole()
        proxy.clear()
        assert await (await node.open_file(name)).read_whole() == store.files[name]
        await node.close()


async def test_a_store_that_ignores_conditions_is_found_out(server: tuple[S3Settings, bool]) -> None:
    """And what it ignores is looked at: the etag of each answer, and the object before it is deleted."""
    async with proxied(server) as proxy:
        proxy.inject(Fault.UNCONDITIONAL)
        s3 = server[0].model_copy(update={"endpoint_url": proxy.url})
        store = S3StorageBackend(BUCKET, prefix="unconditional", settings=s3)
        found = await store.capabilities()
        assert (found.conditional_create, found.conditional_read, found.conditional_delete) == (
            False,
            False,
            False,
        )
        assert len(found.advice) >= 3
        made = await store.create("key", BytesBody(b"bytes"), metadata={})
        with pytest.raises(ObjectChangedError):
            await store.get_range("key", 0, 5, etag='"other"')
        with pytest.raises(ObjectChangedError):
            await store.get_tail("key", 2, etag='"other"')
        with pytest.raises(ObjectChangedError):
            await store.delete("key", etag='"other"')
        assert await store.head("key") == await store.head("key")
        assert (await store.head("key")).etag == made.etag
        await store.close()


async def test_a_store_url_reaches_the_store(server: tuple[S3Settings, bool], tmp_path: Path) -> None:
    async with proxied(server) as proxy:
        settings = settings_of(tmp_path, "by-url", server[0], proxy)
        store = open_store(settings.object_store, settings)
        await store.create("key", BytesBody(b"bytes"), metadata={})
        assert await store.get_range("key", 0, 0) == b""
        assert await store.get_range("key", 1, 3) == b"yt"
        assert proxy.requests == [
            (Operation.CREATE, f"{BUCKET}/by-url/key"),
            (Operation.RANGE, f"{BUCKET}/by-url/key"),
        ]
        await store.close()
