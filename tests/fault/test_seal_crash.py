"""A seal interrupted anywhere is finished or repeated: every file in exactly one container (I3, I9, I10).

The real node runs over simulated doors. The N-th call through the doors to catalog and object store
fails, before or after its effect, for every N until the seal gets through unhurt; once as a crash with
loss of what was not synced, once as a dependency that does not answer.
"""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from des.config import load_settings
from des.core import S3DesReader
from des.db.catalog import CatalogUnavailableError, ContainerState
from des.errors import DesError
from des.files import FileSpec
from des.node import Node
from des.packer import MultiShardPacker
from des.packer.recovery import RecoverySummary, SealDebt
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import ObjectStoreUnavailableError
from des.testing.memory_catalog import MemoryCatalog
from des.testing.simulated_clock import SimulatedClock
from des.testing.simulated_disk import SimulatedDisk

CALLS_MAX = 60


class Crash(BaseException):
    """The process is gone. Not an Exception: nothing may handle it."""


class Trap:
    """Counts calls through the doors; the N-th one fails before or after its effect."""

    def __init__(self, number: int, when: str, failure: Callable[[str], BaseException]) -> None:
        self.number = number
        self.when = when
        self.failure = failure
        self.calls = 0
        self.armed = False
        self.sprung = False

    def guard(self, target: Any, door: str, methods: set[str]) -> Any:
        trap = self

        class Guarded:
            def __getattr__(self, name: str) -> Any:
                method = getattr(target, name)
                if name not in methods:
                    return method

                async def call(*args: Any, **kwargs: Any) -> Any:
                    hit = trap.count()
                    if hit and trap.when == "before":
                        raise trap.failure(door)
                    result = await method(*args, **kwargs)
                    if hit:
                        raise trap.failure(door)
                    return result

                return call

        return Guarded()

    def count(self) -> bool:
        if not self.armed:
            return False
        self.calls += 1
        if self.calls == self.number:
            self.sprung = True
            return True
        return False


class World:
    """What outlives a process: disk, objects, catalog, time."""

    def __init__(self, tmp_path: Path, layout: str) -> None:
        self.clock = SimulatedClock()
        self.disk = SimulatedDisk(random.Random(7))
        self.store = MemoryObjectStore()
        self.catalog = MemoryCatalog(self.clock)
        self.settings = load_settings(
            data_dir=tmp_path,
            shard_bits=1,
            layout=layout,
            big_file_bytes=1 << 20,
            seal={"retry_s": 0},
            log={"segment_bytes": 4 << 20},
        )
        self.rng = random.Random(11)

    async def start(self, trap: Trap | None = None) -> Node:
        catalog: Any = self.catalog
        store: Any = self.store
        if trap is not None:
            catalog = trap.guard(catalog, "catalog", {"container", "announce_container", "commit_container"})
            store = trap.guard(store, "store", {"create", "head", "get_range"})
        return await Node.open(
            self.settings,
            clock=self.clock,
            disk=self.disk,
            store=store,
            catalog=catalog,
            random_bytes=self.rng.randbytes,
            threads=False,
        )

    async def power_cut(self, node: Node) -> None:
        for task in [*node._tasks, node._log._committer.task]:
            task.cancel()
        self.disk.crash()


async def put_some(node: Node) -> dict[str, bytes]:
    rng = random.Random(3)
    files: dict[str, bytes] = {}
    for size in [0, 1, 5000, 900, 70_000, 64, 7]:
        data = rng.randbytes(size)
        spec = FileSpec(metadata={"n": str(size)}, content_type="x/y", request_id=f"r{size}")
        result = await node.put_bytes(spec, data, google_crc32c.value(data))
        files[result.file.name] = data
    upload = await node.begin_put(FileSpec(request_id="big"))
    big = rng.randbytes((1 << 20) + 5)
    await upload.write(big[:700_000])
    await upload.write(big[700_000:])
    files[(await upload.finish(None)).file.name] = big
    return files


async def read_back(node: Node, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        assert await (await node.open_file(name)).read_whole() == data
        assert (await node.stat(name)).crc32c == google_crc32c.value(data)


async def names_in_live_containers(world: World) -> Counter[str]:
    names: Counter[str] = Counter()
    for row in await world.catalog.containers(state=ContainerState.STORED):
        reader = S3DesReader(world.store, row.key, etag=row.etag)
        await reader.open()
        names.update(entry.name for entry in await reader.get_index())
    return names


async def drain(node: Node) -> None:
    for shard in range(2):
        await node.seal_shard(shard)
    assert all(status.open_files == 0 for status in await node.shard_status(None))


async def seal_until_hurt(node: Node, trap: Trap) -> bool:
    trap.armed = True
    try:
        await drain(node)
    except (Crash, DesError):
        pass
    trap.armed = False
    return trap.sprung


async def settled(world: World, node: Node, files: dict[str, bytes]) -> None:
    await read_back(node, files)
    await drain(node)
    await read_back(node, files)
    assert await names_in_live_containers(world) == Counter(dict.fromkeys(files, 1))
    await node.close()
    assert await world.catalog.containers(state=ContainerState.UPLOADING) == []


@pytest.mark.parametrize("layout", ["framed", "v1"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_call_of_a_seal_loses_and_doubles_nothing(
    tmp_path: Path, when: str, layout: str
) -> None:
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, layout)
        trap = Trap(number, when, lambda _: Crash())
        node = await world.start(trap)
        files = await put_some(node)
        hurt = await seal_until_hurt(node, trap)
        await world.power_cut(node)
        await settled(world, await world.start(), files)
        if not hurt:
            assert number > 10
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_dependency_that_does_not_answer_only_delays_a_seal(tmp_path: Path, when: str) -> None:
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, "framed")
        trap = Trap(
            number,
            when,
            lambda door: {
                "catalog": CatalogUnavailableError("no answer"),
                "store": ObjectStoreUnavailableError("no answer"),
            }[door],
        )
        node = await world.start(trap)
        files = await put_some(node)
        hurt = await seal_until_hurt(node, trap)
        await settled(world, node, files)
        if not hurt:
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


async def test_a_second_crash_while_the_first_is_repaired_changes_nothing(tmp_path: Path) -> None:
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, "framed")
        trap = Trap(3, "after", lambda _: Crash())
        node = await world.start(trap)
        files = await put_some(node)
        assert await seal_until_hurt(node, trap)
        await world.power_cut(node)
        again = Trap(number, "after", lambda _: Crash())
        node = await world.start(again)
        hurt = await seal_until_hurt(node, again)
        await world.power_cut(node)
        await settled(world, await world.start(), files)
        if not hurt:
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


async def test_a_catalog_that_lost_a_stored_row_gets_it_again(tmp_path: Path) -> None:
    world = World(tmp_path, "framed")
    node = await world.start()
    files = await put_some(node)
    await drain(node)
    await node.close()
    older = MemoryCatalog(world.clock)
    older._store_id = world.catalog._store_id
    world.catalog = older
    node = await world.start()
    await settled(world, node, files)


async def test_an_object_in_the_way_is_left_alone_and_reported(tmp_path: Path) -> None:
    world = World(tmp_path, "framed")
    trap = Trap(2, "after", lambda _: Crash())  # announced, not uploaded
    node = await world.start(trap)
    files = await put_some(node)
    await seal_until_hurt(node, trap)
    await world.power_cut(node)
    (row,) = await world.catalog.containers(state=ContainerState.UPLOADING)
    upload = await world.store.begin_upload(row.key, metadata={})
    await upload.write(b"something else")
    foreign = await upload.finish()
    node = await world.start()
    with pytest.raises(DesError, match="expected"):
        await node.seal_shard(row.run.first)
    status = (await node.shard_status([row.run.first]))[0]
    assert "expected" in status.last_error
    assert status.state == "sealing"
    await read_back(node, files)
    assert (await world.store.head(row.key)).etag == foreign.etag
    await node.close()


async def test_a_retry_after_a_crash_gets_the_file_of_the_first_attempt(tmp_path: Path) -> None:
    world = World(tmp_path, "framed")
    node = await world.start()
    first = await node.put_bytes(FileSpec(request_id="once"), b"data", google_crc32c.value(b"data"))
    await world.power_cut(node)
    node = await world.start()
    second = await node.put_bytes(FileSpec(request_id="once"), b"data", google_crc32c.value(b"data"))
    assert second.already_existed
    assert second.file.name == first.file.name
    with pytest.raises(DesError, match="once"):
        await node.put_bytes(FileSpec(request_id="once"), b"other", google_crc32c.value(b"other"))
    await node.close()


def forget_pending_seals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a start seals the members of an unfinished seal anew, under another id."""

    async def settle(self: Any, recovered: Any) -> Any:
        opened, dropped = self._publish(recovered.files)
        return RecoverySummary(opened, 0, 0, dropped)

    monkeypatch.setattr("des.packer.recovery.CrashRecoveryManager.settle", settle)


def forget_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: files leave the open index before the catalog has their container."""
    original = MultiShardPacker._store_container

    async def store(self: Any, pending: Any, announced: Any) -> Any:
        self._open_index.remove(pending.files)
        self._pending.remove(pending)
        row = await original(self, pending, announced)
        self._pending.append(pending)
        return row

    monkeypatch.setattr(MultiShardPacker, "_store_container", store)


def trust_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the log's STORED record is believed without asking the catalog."""
    monkeypatch.setattr("des.packer.recovery.plan_seal", lambda row: SealDebt.NOTHING)


def refuse_what_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: "exists already" is a failure, not a question."""

    async def upload(store: Any, built: Any) -> Any:
        return await store.create(built.row.key, built.body, metadata={"des-sha256": built.row.sha256})

    monkeypatch.setattr("des.packer.multi_shard_packer.upload_container", upload)


@pytest.mark.parametrize(
    "mutant", [forget_pending_seals, forget_before_the_commit, trust_the_hint, refuse_what_exists]
)
async def test_these_tests_catch_a_seal_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutant(monkeypatch)
    caught = 0
    for scenario in (
        lambda: test_a_crash_at_any_call_of_a_seal_loses_and_doubles_nothing(tmp_path, "after", "framed"),
        lambda: test_a_dependency_that_does_not_answer_only_delays_a_seal(tmp_path, "after"),
        lambda: test_a_catalog_that_lost_a_stored_row_gets_it_again(tmp_path),
    ):
        try:
            await scenario()
        except (AssertionError, DesError, KeyError, ValueError, pytest.fail.Exception):
            caught += 1
    assert caught
