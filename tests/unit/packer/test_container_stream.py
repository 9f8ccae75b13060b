"""A container's bytes on their way to an upload, in order, the end of them kept."""

import asyncio
from random import Random

import pytest

from des.packer.container_stream import ContainerStream, KeptBytes
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import ObjectStoreUnavailableError, ObjectUpload

PARTS = [Random(1).randbytes(100 + n) for n in range(12)]


class Slow:
    """An upload that takes a part when it is told to."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.turns = asyncio.Semaphore(0)
        self.refuses = False

    async def write(self, data: bytes) -> None:
        await self.turns.acquire()
        if self.refuses:
            raise ObjectStoreUnavailableError("no answer")
        self.taken.append(data)

    async def finish(self) -> None: ...

    async def abort(self) -> None: ...


async def uploaded(upload: ObjectUpload | None, *, between: int) -> KeptBytes:
    stream = ContainerStream(upload)
    for number, part in enumerate(PARTS[:-2]):
        assert stream.write(memoryview(part)) == len(part)
        if number % between == 0:
            await stream.hand_on()
    await stream.hand_on()
    stream.write(PARTS[-2])
    stream.write(PARTS[-1])
    return await stream.end()


@pytest.mark.parametrize("between", [1, 3, 100])
async def test_the_upload_gets_every_byte_and_the_last_ones_are_kept(between):
    store = MemoryObjectStore()
    upload = await store.begin_upload("key", metadata={})
    kept = await uploaded(upload, between=between)
    info = await upload.finish()
    whole = b"".join(PARTS)
    assert await store.get_range("key", 0, info.size) == whole
    assert kept.size() == len(whole)
    start = len(whole) - len(PARTS[-2]) - len(PARTS[-1])
    assert kept.start == start
    assert kept.pread(50, start + 20) == whole[start + 20 : start + 70]
    with pytest.raises(ValueError, match="gone"):
        kept.pread(1, start - 1)


async def test_without_an_upload_everything_is_kept():
    kept = await uploaded(None, between=1)
    assert (kept.start, kept.pread(1 << 20, 0)) == (0, b"".join(PARTS))


async def test_of_a_view_of_more_only_its_own_bytes_are_taken():
    stream = ContainerStream(None)
    stream.write(memoryview(PARTS[0])[10:20])
    assert (await stream.end()).pread(1000, 0) == PARTS[0][10:20]


async def test_no_more_is_handed_on_than_one_batch_beside_the_one_that_is_made():
    upload = Slow()
    stream = ContainerStream(upload)
    stream.write(PARTS[0])
    await stream.hand_on()
    stream.write(PARTS[1])
    waiting = asyncio.ensure_future(stream.hand_on())
    await asyncio.sleep(0)
    assert not waiting.done()
    upload.turns.release()
    await waiting
    assert upload.taken == PARTS[:1]
    await stream.drop()
    await stream.drop()
    assert upload.taken == PARTS[:1]


async def test_what_the_upload_failed_with_is_told_at_the_latest_at_the_end():
    upload = Slow()
    upload.refuses = True
    upload.turns.release()
    stream = ContainerStream(upload)
    stream.write(PARTS[0])
    with pytest.raises(ObjectStoreUnavailableError):
        await stream.end()
    await stream.drop()
