"""A disk that is full or fails: writes are refused with a reason, reads go on."""

import errno

import google_crc32c
import pytest

from des.errors import ExhaustedError, NotFoundError, UnavailableError
from des.files import FileSpec
from des.testing.simulated_disk import Fault


async def put(node, data: bytes):
    return await node.put_bytes(FileSpec(), data, google_crc32c.value(data))


async def test_a_name_that_nobody_put_is_not_found(world) -> None:
    (assigned,) = await world.node.assign_names(1, "", "")
    with pytest.raises(NotFoundError):
        await world.node.open_file(assigned.name)
    with pytest.raises(NotFoundError):
        await world.node.stat(assigned.name)


async def test_a_failed_sync_refuses_writes_until_a_restart_and_never_reads(world) -> None:
    kept = await put(world.node, b"kept")
    world.disk.faults.append(Fault(at=0, code=errno.EIO, only="sync"))
    with pytest.raises(UnavailableError) as caught:
        await put(world.node, b"lost")
    assert caught.value.reason == "LOG_FAILED"
    with pytest.raises(UnavailableError):
        await put(world.node, b"too")
    assert await (await world.node.open_file(kept.file.name)).read_whole() == b"kept"
    assert not world.node.health().writable
    assert (await world.node.shard_status([kept.file.shard]))[0].state == "read_only"
    await world.restart()
    assert world.node.health().writable
    assert await (await world.node.open_file(kept.file.name)).read_whole() == b"kept"
    await put(world.node, b"again")


async def test_a_full_disk_refuses_writes_until_there_is_room(world) -> None:
    kept = await put(world.node, b"kept")
    room = world.disk.capacity
    world.disk.capacity -= world.disk.room()
    with pytest.raises(ExhaustedError) as caught:
        for _ in range(200):
            await put(world.node, bytes(1 << 20))
    assert caught.value.reason == "DISK_FULL"
    assert await (await world.node.open_file(kept.file.name)).read_whole() == b"kept"
    world.disk.capacity = room
    await put(world.node, b"again")
