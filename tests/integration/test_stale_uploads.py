"""What a killed process left of an upload in parts is dropped when it is old, and not before."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from des.config import S3Settings, Settings
from des.node.stale_uploads import StaleUploads
from des.storage import S3StorageBackend
from des.testing.memory_catalog import MemoryCatalog
from des.testing.s3_server import BUCKET, temporary_moto, temporary_versitygw
from des.testing.simulated_clock import SimulatedClock


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """One that dates uploads by its clock."""
    with temporary_versitygw(tmp_path_factory.mktemp("s3")) as settings:
        yield settings


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Settings]:
    """One that dates every upload in 2010."""
    with temporary_moto() as settings:
        yield settings


def another(store: S3StorageBackend) -> S3StorageBackend:
    """The same place, as another process has it."""
    return S3StorageBackend(BUCKET, prefix=store.prefix, settings=store.s3.settings)


async def started(store: S3StorageBackend, key: str) -> Any:
    """Return an upload whose first parts the store has."""
    upload: Any = await store.begin_upload(key, metadata={})
    await upload.write(bytes(11 << 20))
    await asyncio.gather(*upload._parts)
    return upload


def under_way(store: S3StorageBackend) -> int:
    answer = store.s3.client.list_multipart_uploads(Bucket=BUCKET, Prefix=store.prefix)
    return len(answer.get("Uploads", []))


@pytest.mark.parametrize("prefix", ["", "below"])
async def test_uploads_go_when_they_are_two_days_old(server: S3Settings, prefix: str) -> None:
    store = S3StorageBackend(BUCKET, prefix=uuid4().hex, settings=server)
    killed = another(store)
    for key in ("below/one", "other/two"):
        await started(killed, key)
    clock = SimulatedClock()
    stale = StaleUploads(
        settings=Settings(object_prefix=prefix), catalog=MemoryCatalog(clock), store=store, clock=clock
    )
    begun = store.s3.client.list_multipart_uploads(Bucket=BUCKET, Prefix=store.prefix)["Uploads"]
    begun_ms = int(max(one["Initiated"] for one in begun).timestamp() * 1000)
    clock.set_wall(begun_ms)
    assert await stale.step() == 0
    clock.advance(1.9 * 24 * 3600)
    assert await stale.step() == 0
    assert under_way(store) == 2
    clock.advance(0.2 * 24 * 3600)
    assert await stale.step() == (1 if prefix else 2)
    assert await stale.step() == 0
    await killed.close()
    await store.close()


async def test_a_clock_that_runs_ahead_drops_nothing(server: S3Settings) -> None:
    """Of this machine, or of the database: the earlier one counts."""
    store = S3StorageBackend(BUCKET, prefix=uuid4().hex, settings=server)
    killed = another(store)
    upload = await started(killed, "key")
    right, ahead = SimulatedClock(), SimulatedClock()
    [begun] = store.s3.client.list_multipart_uploads(Bucket=BUCKET, Prefix=store.prefix)["Uploads"]
    begun_ms = int(begun["Initiated"].timestamp() * 1000)
    right.set_wall(begun_ms)
    ahead.set_wall(begun_ms + 10 * 24 * 3600 * 1000)
    for ours, database in ((right, ahead), (ahead, right)):
        stale = StaleUploads(settings=Settings(), catalog=MemoryCatalog(database), store=store, clock=ours)
        assert await stale.step() == 0
    assert under_way(store) == 1
    await upload.abort()
    await killed.close()
    await store.close()


async def test_an_upload_of_this_process_is_never_dropped(server: S3Settings) -> None:
    """However old the store says it is; when it is over, one of another process under its key is."""
    store = S3StorageBackend(BUCKET, prefix=uuid4().hex, settings=server)
    killed = another(store)
    await started(killed, "given up")
    upload = await started(store, "kept")
    assert await store.abort_stale_uploads("", begun_before_ms=1 << 42) == 1
    await upload.write(b"end")
    assert (await upload.finish()).size == (11 << 20) + 3
    await started(killed, "kept")
    assert await store.abort_stale_uploads("", begun_before_ms=1 << 42) == 1
    failed = await started(store, "aborted")
    failed.is_under_way = False  # as when its abort did not reach the store
    assert await store.abort_stale_uploads("", begun_before_ms=1 << 42) == 1
    await killed.close()
    await store.close()


async def test_a_store_that_keeps_no_dates_of_uploads_is_not_judged_by_them(moto: S3Settings) -> None:
    """Neither this process's uploads nor another's go, whoever asks."""
    store = S3StorageBackend(BUCKET, prefix=uuid4().hex, settings=moto)
    beside = another(store)
    uploads = [await started(store, "own"), await started(beside, "other")]
    clock = SimulatedClock()
    stale = StaleUploads(settings=Settings(), catalog=MemoryCatalog(clock), store=store, clock=clock)
    assert await stale.step() == 0
    assert under_way(store) == 2
    for upload in uploads:
        assert (await upload.finish()).size == 11 << 20
    await beside.close()
    await store.close()
