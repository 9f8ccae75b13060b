"""What a killed process left of an upload in parts is dropped when it is old, and not before."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from des.config import S3Settings, Settings
from des.node.stale_uploads import StaleUploads
from des.storage import S3StorageBackend
from des.testing.memory_catalog import MemoryCatalog
from des.testing.s3_server import BUCKET, temporary_moto
from des.testing.simulated_clock import SimulatedClock


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Settings]:
    with temporary_moto() as settings:
        yield settings


def under_way(store: S3StorageBackend) -> int:
    answer = store.s3.client.list_multipart_uploads(Bucket=BUCKET, Prefix=store.prefix)
    return len(answer.get("Uploads", []))


@pytest.mark.parametrize("prefix", ["", "below"])
async def test_uploads_go_when_they_are_two_days_old(moto: S3Settings, prefix: str) -> None:
    store = S3StorageBackend(BUCKET, prefix=uuid4().hex, settings=moto)
    for key in ("below/one", "other/two"):
        upload = await store.begin_upload(key, metadata={})
        await upload.write(bytes(11 << 20))
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
    await store.close()


async def test_a_clock_that_runs_ahead_drops_nothing(moto: S3Settings) -> None:
    """Of this machine, or of the database: the earlier one counts."""
    store = S3StorageBackend(BUCKET, prefix=uuid4().hex, settings=moto)
    upload = await store.begin_upload("key", metadata={})
    await upload.write(bytes(11 << 20))
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
    await store.close()
