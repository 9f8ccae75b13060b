"""Deleted means: gone for every reader at once and after every crash, and the name is never free again."""

import errno
from typing import Any

import google_crc32c
import pytest

from des.db.catalog import CatalogUnavailableError
from des.errors import DesError, NotFoundError, UnavailableError
from des.files import FileInfo, FileSpec, FileState
from des.node import Node
from des.node.put_many import WholeFile
from des.retrieval import ReadCost, Wanted
from des.retrieval.tombstones import FileDeletedError, NameDeletedError
from des.storage.object_store import ObjectStoreUnavailableError
from des.testing.simulated_disk import Fault

MIB = 1 << 20


async def put(world: Any, data: bytes = b"abc", **spec: Any) -> FileInfo:
    world.clock.advance(0.001)
    return (await world.node.put_bytes(FileSpec(**spec), data, google_crc32c.value(data))).file


async def delete(node: Node, *names: str, allow_missing: bool = False):
    return await node.delete_many(list(names), allow_missing=allow_missing)


async def seal_all(node: Node) -> None:
    for shard in range(1 << node.settings.shard_bits):
        await node.seal_shard(shard)


async def read_reason(node: Node, name: str) -> str:
    async for parts in node.read_many([Wanted(name)], part_bytes=MIB, cost=ReadCost()):
        return parts[0].error.reason if parts[0].error else ""
    raise AssertionError


async def demand_gone(node: Node, name: str) -> None:
    """Every way to ask for a file says that it was deleted; nobody can write under its name."""
    with pytest.raises(FileDeletedError) as read:
        await node.open_file(name)
    assert read.value.details["delete_time"].startswith("20")
    with pytest.raises(FileDeletedError):
        await node.stat(name)
    assert await read_reason(node, name) == "FILE_DELETED"
    [stated] = await node.stat_many([name], cost=ReadCost())
    assert isinstance(stated, FileDeletedError)
    with pytest.raises(NameDeletedError):
        await node.put_bytes(FileSpec(name=name), b"abc", google_crc32c.value(b"abc"))
    item = WholeFile(FileSpec(name=name), b"abc", google_crc32c.value(b"abc"))
    [outcome] = await node.put_many([item])
    assert isinstance(outcome, NameDeletedError)
    assert "delete_time" in outcome.details
    [again] = await delete(node, name)
    assert isinstance(again, FileDeletedError)
    assert await delete(node, name, allow_missing=True) == [None]


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_deleted_file_is_gone_at_once_and_after_restarts(world, sealed) -> None:
    keep, gone = await put(world, b"keep"), await put(world, b"gone")
    if sealed:
        await seal_all(world.node)
    await world.node.open_file(gone.name)  # its place is remembered now
    [deleted] = await delete(world.node, gone.name)
    assert (deleted.name, deleted.state, deleted.size) == (gone.name, FileState.DELETED, 4)
    assert deleted.deleted_ms
    await demand_gone(world.node, gone.name)
    for _ in range(2):
        await world.restart()
        await demand_gone(world.node, gone.name)
        assert await (await world.node.open_file(keep.name)).read_whole() == b"keep"
        await seal_all(world.node)
        await demand_gone(world.node, gone.name)
    [row] = await world.catalog.tombstones_of(gone.day, gone.shard, bits=world.settings.shard_bits)
    assert row.name == gone.name


async def test_what_is_not_there_is_told_unless_that_is_allowed(world) -> None:
    [unknown] = await world.node.assign_names(1, "", "")
    [found] = await delete(world.node, unknown.name)
    assert isinstance(found, NotFoundError)
    assert found.reason == "FILE_NOT_FOUND"
    assert await delete(world.node, unknown.name, allow_missing=True) == [None]
    file = await put(world, name=unknown.name)  # an unknown name is not used up by the attempt
    assert file.name == unknown.name
    [bad] = await delete(world.node, "no name", allow_missing=True)
    assert isinstance(bad, DesError)
    assert bad.reason == "INVALID_NAME"


async def test_a_batch_deletes_what_it_can_and_each_name_once(world) -> None:
    files = [await put(world, b"%d" % i) for i in range(30)]
    await seal_all(world.node)
    files += [await put(world, b"%d" % i) for i in range(30)]
    names = [file.name for file in files]
    found = await delete(world.node, *names[::2], "bad", names[0])
    assert [each.state for each in found[:30]] == [FileState.DELETED] * 30
    assert found[30].reason == "INVALID_NAME"
    assert found[31] == found[0]
    for at, name in enumerate(names):
        if at % 2:
            await world.node.open_file(name)
        else:
            await demand_gone(world.node, name)
    assert world.node._log._segments  # and nothing is owed any more
    assert not world.node._deletions._owed


async def test_a_deleted_open_file_is_in_no_container_and_frees_the_log(world) -> None:
    files = [await put(world, bytes(MIB - 10)) for _ in range(8)]
    kept = await put(world, b"kept")
    await delete(world.node, *[file.name for file in files])
    assert [bucket.files for bucket in world.node._open_index.buckets()] == [1]
    await world.node.seal_shard(kept.shard)
    [row] = await world.catalog.containers()
    assert row.geometry.file_count == 1
    world.clock.advance(world.settings.log.reclaim_delay_s + 1)
    await put(world, bytes(MIB - 10))
    await world.node._packer.step()
    assert world.node._log.bytes_used <= 2 * (4 << 20)


async def test_a_file_deleted_while_it_is_being_sealed_is_gone_before_and_after(world, monkeypatch) -> None:
    file = await put(world, b"sealing")
    other = await put(world, b"other", name=(await neighbour(world, file)))
    create = world.store.create

    async def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise ObjectStoreUnavailableError("not now")

    monkeypatch.setattr(world.store, "create", refuse)
    monkeypatch.setattr(world.store, "begin_upload", refuse)
    with pytest.raises(UnavailableError):
        await world.node.seal_shard(file.shard)
    monkeypatch.undo()
    assert create is not None
    await delete(world.node, file.name)
    await demand_gone(world.node, file.name)
    await world.restart()  # the seal is repeated from the log, with the very same bytes
    await demand_gone(world.node, file.name)
    await world.node.seal_shard(file.shard)
    await demand_gone(world.node, file.name)
    [row] = await world.catalog.containers()
    assert row.geometry.file_count == 2
    assert await (await world.node.open_file(other.name)).read_whole() == b"other"


async def neighbour(world: Any, file: FileInfo) -> str:
    """Return a new name of the same shard."""
    while True:
        world.clock.advance(0.001)
        [assigned] = await world.node.assign_names(1, "", "")
        if assigned.shard == file.shard:
            return str(assigned.name)


async def test_a_deletion_whose_tombstone_was_not_recorded_holds_and_is_finished(world, monkeypatch) -> None:
    file = await put(world)
    await seal_all(world.node)

    async def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise CatalogUnavailableError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(world.catalog, "put_tombstones", refuse)
        [outcome] = await delete(world.node, file.name)
        assert isinstance(outcome, CatalogUnavailableError)
        with pytest.raises(FileDeletedError):
            await world.node.open_file(file.name)
        with pytest.raises(CatalogUnavailableError):
            await world.node._deletions.step()
    [deleted] = await delete(world.node, file.name)  # the client's retry
    assert deleted.state is FileState.DELETED
    await demand_gone(world.node, file.name)


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_start_finishes_what_a_crash_left_between_log_and_catalog(world, monkeypatch, sealed) -> None:
    file = await put(world)
    if sealed:
        await seal_all(world.node)

    async def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise CatalogUnavailableError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(world.catalog, "put_tombstones", refuse)
        await delete(world.node, file.name)
    assert not await world.catalog.tombstones()
    await world.restart()
    await demand_gone(world.node, file.name)
    assert [row.name for row in await world.catalog.tombstones()] == [file.name]


async def test_a_log_that_fails_deletes_nothing(world) -> None:
    file = await put(world)
    world.disk.faults.append(Fault(at=0, code=errno.EIO, only="sync"))
    [outcome] = await delete(world.node, file.name)
    assert isinstance(outcome, DesError)
    assert outcome.reason == "LOG_FAILED"
    assert await (await world.node.open_file(file.name)).read_whole() == b"abc"
    await world.restart()
    try:  # whether the record is on the device is open: both answers are right, and stay
        await world.node.open_file(file.name)
    except FileDeletedError:
        await demand_gone(world.node, file.name)


async def test_the_object_of_a_big_file_is_owned_by_its_tombstone(world) -> None:
    opened, sealed = await put(world, bytes(2 * MIB)), await put(world, bytes(2 * MIB + 1))
    await world.node.seal_shard(sealed.shard)
    await delete(world.node, opened.name, sealed.name)
    keys = [row.external_key for row in await world.catalog.tombstones()]
    assert len(keys) == 2
    for key in keys:
        assert (await world.store.head(key)).size >= 2 * MIB


async def test_deletes_are_recorded_when_the_log_is_full(world) -> None:
    await world.node.close()
    world.settings = world.settings.model_copy(
        update={"log": world.settings.log.model_copy(update={"budget_bytes": 12 << 20})}
    )
    await world.start()
    files = []
    while True:
        try:
            files.append(await put(world, bytes(MIB - 10)))
        except DesError as error:
            assert error.reason == "DISK_FULL"
            break
    found = await delete(world.node, *[file.name for file in files])
    assert {each.state for each in found} == {FileState.DELETED}
