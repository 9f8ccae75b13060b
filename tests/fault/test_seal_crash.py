"""A seal interrupted anywhere is finished or repeated: every file in exactly one container (I3, I9, I10).

The real node runs over simulated doors. The N-th call through the doors to catalog and object store
fails, before or after its effect, for every N until the seal gets through unhurt; once as a crash with
loss of what was not synced, once as a dependency that does not answer.
"""

import contextlib
import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import google_crc32c
import pytest

from des.config import load_settings
from des.core import S3DesReader
from des.db.catalog import CatalogUnavailableError, ContainerRow, ContainerState, FencedError
from des.errors import CorruptError, DesError
from des.files import FileSpec
from des.ingest.values import Sealing
from des.node import Node
from des.packer import MultiShardPacker
from des.packer.container_check import ContainerUnreadableError, check_built
from des.packer.recovery import RecoverySummary, SealDebt, void_seals
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import NoSuchObjectError, ObjectStoreUnavailableError
from des.testing.memory_catalog import MemoryCatalog
from tests.fault.simulated_world import Crash, SimulatedWorld, Trap

CALLS_MAX = 60
CATALOG_CALLS = {"container", "announce_container", "commit_container", "abandon_container"}


class World(SimulatedWorld):
    trapped: ClassVar = {"catalog": CATALOG_CALLS, "store": {"create", "begin_upload", "head", "get_range"}}

    def __init__(self, tmp_path: Path, layout: str) -> None:
        super().__init__(
            load_settings(
                data_dir=tmp_path,
                shard_bits=1,
                layout=layout,
                big_file_bytes=1 << 20,
                seal={"retry_s": 0},
                log={"segment_bytes": 4 << 20},
            )
        )


async def put_some(node: Node) -> dict[str, bytes]:
    rng = random.Random(3)
    files: dict[str, bytes] = {}
    for size in [0, 1, 5000, 900, 70_000, 64, 7]:
        data = b"again" * 1000 if size == 5000 else rng.randbytes(size)
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


@pytest.fixture
def uploaded_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every container is uploaded while it is built, as only long ones are."""
    monkeypatch.setattr("des.packer.container_builder.STREAMED_FROM", 0)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.usefixtures("uploaded_meanwhile")
async def test_a_crash_while_a_container_is_uploaded_as_it_is_built_loses_and_doubles_nothing(
    tmp_path: Path, when: str
) -> None:
    await test_a_crash_at_any_call_of_a_seal_loses_and_doubles_nothing(tmp_path, when, "framed")


@pytest.mark.parametrize("when", ["before", "after", "late"])
@pytest.mark.usefixtures("uploaded_meanwhile")
async def test_a_store_that_does_not_answer_while_a_container_is_built_only_delays_its_seal(
    tmp_path: Path, when: str
) -> None:
    await test_a_dependency_that_does_not_answer_only_delays_a_seal(tmp_path, when)


@pytest.mark.usefixtures("uploaded_meanwhile")
async def test_of_a_container_uploaded_as_it_was_built_the_end_proves_what_is_there(tmp_path: Path) -> None:
    """Its metadata does not say the SHA-256: an object of the same id and size is ours only by its bytes."""
    world = World(tmp_path, "framed")
    trap = Trap(CALLS_MAX, "before", lambda _: Crash(), armed=False)
    node = await world.node(trap)
    files = await put_some(node)
    catalog: Any = world.catalog
    announce = catalog.announce_container

    async def die(*arguments: Any) -> ContainerRow:
        await announce(*arguments)
        raise Crash

    catalog.announce_container = die
    assert not await seal_until_hurt(node, trap)
    catalog.announce_container = announce
    await world.power_cut(node)
    (row,) = await world.catalog.containers(state=ContainerState.UPLOADING)
    with pytest.raises(NoSuchObjectError):
        await world.store.head(row.key)  # all parts were there, and nobody saw an object
    upload = await world.store.begin_upload(row.key, metadata={"des-container-id": row.container_id})
    await upload.write(b"z" * row.geometry.size)
    await upload.finish()
    await settled(world, await world.node(), files)
    (abandoned,) = await world.catalog.containers(state=ContainerState.ABANDONED)
    assert abandoned.container_id == row.container_id


@pytest.mark.usefixtures("uploaded_meanwhile")
async def test_a_seal_that_lost_its_shard_while_it_uploaded_makes_no_object(tmp_path: Path) -> None:
    world = World(tmp_path, "framed")
    node = await world.node()
    await put_some(node)
    catalog: Any = world.catalog

    async def fenced(*_: Any) -> ContainerRow:
        raise FencedError("another node has the shard")

    catalog.announce_container = fenced
    before = [info.key async for info in world.store.list("")]
    with pytest.raises(FencedError):
        await node.seal_shard(0)
    assert [info.key async for info in world.store.list("")] == before
    del catalog.announce_container
    await node.close()


@pytest.mark.parametrize("layout", ["framed", "v1"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_call_of_a_seal_loses_and_doubles_nothing(
    tmp_path: Path, when: str, layout: str
) -> None:
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, layout)
        trap = Trap(number, when, lambda _: Crash(), armed=False)
        node = await world.node(trap)
        files = await put_some(node)
        hurt = await seal_until_hurt(node, trap)
        await world.power_cut(node)
        await settled(world, await world.node(), files)
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
            armed=False,
        )
        node = await world.node(trap)
        files = await put_some(node)
        hurt = await seal_until_hurt(node, trap)
        await settled(world, node, files)
        if not hurt:
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


async def test_a_second_crash_while_the_first_is_repaired_changes_nothing(tmp_path: Path) -> None:
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, "framed")
        trap = Trap(3, "after", lambda _: Crash(), armed=False)
        node = await world.node(trap)
        files = await put_some(node)
        assert await seal_until_hurt(node, trap)
        await world.power_cut(node)
        again = Trap(number, "after", lambda _: Crash(), armed=False)
        node = await world.node(again)
        hurt = await seal_until_hurt(node, again)
        await world.power_cut(node)
        await settled(world, await world.node(), files)
        if not hurt:
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


async def test_a_catalog_that_lost_a_stored_row_gets_it_again(tmp_path: Path) -> None:
    world = World(tmp_path, "framed")
    node = await world.node()
    files = await put_some(node)
    await drain(node)
    await node.close()
    older = MemoryCatalog(world.clock)
    older._store_id = world.catalog._store_id
    world.catalog = older
    node = await world.node()
    await settled(world, node, files)


async def announced_only(world: World) -> tuple[ContainerRow, dict[str, bytes]]:
    """A container announced by a process that died before it uploaded anything."""
    trap = Trap(2, "after", lambda _: Crash(), armed=False)
    node = await world.node(trap)
    files = await put_some(node)
    await seal_until_hurt(node, trap)
    await world.power_cut(node)
    (row,) = await world.catalog.containers(state=ContainerState.UPLOADING)
    return row, files


async def test_an_object_in_the_way_is_left_alone_and_its_container_abandoned(tmp_path: Path) -> None:
    world = World(tmp_path, "framed")
    row, files = await announced_only(world)
    upload = await world.store.begin_upload(row.key, metadata={})
    await upload.write(b"something else")
    foreign = await upload.finish()
    node = await world.node()
    await settled(world, node, files)
    assert (await world.store.head(row.key)).etag == foreign.etag
    (abandoned,) = await world.catalog.containers(state=ContainerState.ABANDONED)
    assert abandoned.container_id == row.container_id


@pytest.mark.parametrize("uploaded", [False, True])
async def test_a_seal_that_would_give_other_bytes_now_is_finished_all_the_same(
    tmp_path: Path, *, uploaded: bool
) -> None:
    """As after another release of zstd: the setting `compression` changed between crash and start."""
    world = World(tmp_path, "framed")
    if uploaded:
        trap = Trap(3, "after", lambda _: Crash(), armed=False)
        node = await world.node(trap)
        files = await put_some(node)
        await seal_until_hurt(node, trap)
        await world.power_cut(node)
        (row,) = await world.catalog.containers(state=ContainerState.UPLOADING)
        await world.store.head(row.key)
    else:
        row, files = await announced_only(world)
    world.settings = world.settings.model_copy(update={"compression": "off"})
    node = await world.node()
    await settled(world, node, files)
    after = await world.catalog.container(row.container_id)
    assert after is not None
    # What was uploaded is as good as any; what was not is given up, never to be committed.
    assert after.state is (ContainerState.STORED if uploaded else ContainerState.ABANDONED)


async def test_a_seal_given_up_is_not_repeated_by_later_starts(tmp_path: Path) -> None:
    """Whatever call of the second seal the process dies at."""
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, "framed")
        _, files = await announced_only(world)
        world.settings = world.settings.model_copy(update={"compression": "off"})
        trap = Trap(number, "after", lambda _: Crash(), armed=False)
        node = await world.node(trap)
        hurt = await seal_until_hurt(node, trap)
        await world.power_cut(node)
        await settled(world, await world.node(), files)
        node = await world.node()
        await read_back(node, files)
        assert await names_in_live_containers(world) == Counter(dict.fromkeys(files, 1))
        await node.close()
        if not hurt:
            assert number > 10
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


async def test_an_upload_that_lands_after_its_container_was_given_up_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "framed")
    row, files = await announced_only(world)
    world.settings = world.settings.model_copy(update={"compression": "off"})
    node = await world.node()
    await drain(node)
    identity = {"des-container-id": row.container_id, "des-sha256": row.sha256}
    upload = await world.store.begin_upload(row.key, metadata=identity)
    await upload.write(b"z" * row.geometry.size)
    await upload.finish()
    await node.close()
    await settled(world, await world.node(), files)


async def test_an_uploaded_container_that_does_not_read_back_is_never_committed(tmp_path: Path) -> None:
    world = World(tmp_path, "framed")
    row, files = await announced_only(world)
    identity = {"des-container-id": row.container_id, "des-sha256": row.sha256}
    upload = await world.store.begin_upload(row.key, metadata=identity)
    await upload.write(b"z" * row.geometry.size)  # as a flipped bit on the way would, only more of them
    await upload.finish()
    await settled(world, await world.node(), files)
    (abandoned,) = await world.catalog.containers(state=ContainerState.ABANDONED)
    assert abandoned.container_id == row.container_id


async def test_a_store_that_keeps_nothing_as_sent_does_not_get_more_and_more(tmp_path: Path) -> None:
    """Each attempt has a new key; after a few in a row the seal waits for somebody to look."""
    world = World(tmp_path, "framed")

    class Spoiling(MemoryObjectStore):
        def put(self, key: str, data: bytes, metadata: Any) -> Any:
            return super().put(key, bytes(len(data)) if key.endswith(".des") else data, metadata)

    world.store = Spoiling()
    node = await world.node()
    files = await put_some(node)
    for _ in range(20):
        with contextlib.suppress(DesError):
            await drain(node)
    assert len([info async for info in world.store.list("")]) < 10
    assert await world.catalog.containers(state=ContainerState.STORED) == []
    await read_back(node, files)
    await node.close()


@pytest.mark.parametrize(
    ("debts", "void"),
    [
        ([("a", "12", "void"), ("b", "12", "repeat")], "a"),
        ([("a", "12", "repeat"), ("b", "12", "repeat")], "a"),  # the catalog lost that it was given up
        ([("a", "12", "repeat"), ("b", "2", "nothing")], "a"),
        ([("a", "12", "nothing"), ("b", "23", "repeat")], "b"),
        ([("a", "12", "repeat"), ("b", "34", "repeat"), ("c", "4", "repeat")], "b"),
        ([("a", "12", "repeat"), ("b", "34", "nothing")], ""),
    ],
)
def test_of_seals_that_share_a_record_one_holds(debts: list[tuple[str, str, str]], void: str) -> None:
    given = [
        (Sealing(name, 20260228, 0, 1, 1, "framed", 1, [int(seq) for seq in seqs]), SealDebt(debt))
        for name, seqs, debt in debts
    ]
    assert void_seals(given) == set(void)


async def test_a_retry_after_a_crash_gets_the_file_of_the_first_attempt(tmp_path: Path) -> None:
    world = World(tmp_path, "framed")
    node = await world.node()
    first = await node.put_bytes(FileSpec(request_id="once"), b"data", google_crc32c.value(b"data"))
    await world.power_cut(node)
    node = await world.node()
    second = await node.put_bytes(FileSpec(request_id="once"), b"data", google_crc32c.value(b"data"))
    assert second.already_existed
    assert second.file.name == first.file.name
    with pytest.raises(DesError, match="once"):
        await node.put_bytes(FileSpec(request_id="once"), b"other", google_crc32c.value(b"other"))
    await node.close()


def forget_pending_seals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a start seals the members of an unfinished seal anew, under another id."""

    async def settle(self: Any, recovered: Any, **_: Any) -> Any:
        opened, dropped = self._publish(recovered.files)
        return RecoverySummary(opened, 0, 0, dropped)

    monkeypatch.setattr("des.packer.recovery.CrashRecoveryManager.settle", settle)


def forget_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: files leave the open index before the catalog has their container."""
    original = MultiShardPacker._finish

    async def finish(self: Any, pending: Any) -> Any:
        store = self._containers.store

        async def forget_and_store(sealing: Any, files: Any) -> Any:
            self._open_index.remove(files)
            self._pending.remove(pending)
            row = await store(sealing, files)
            self._pending.append(pending)
            return row

        self._containers.store = forget_and_store
        try:
            return await original(self, pending)
        finally:
            self._containers.store = store

    monkeypatch.setattr(MultiShardPacker, "_finish", finish)


def trust_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the log's STORED record is believed without asking the catalog."""
    monkeypatch.setattr("des.packer.recovery.plan_seal", lambda row: SealDebt.NOTHING)


def refuse_what_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: "exists already" is a failure, not a question."""

    async def upload(store: Any, built: Any) -> Any:
        return await store.create(built.row.key, built.body, metadata={"des-sha256": built.row.sha256})

    monkeypatch.setattr("des.packer.container_commit.upload_container", upload)


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


class OneByteOff(MemoryObjectStore):
    """Of the first container that is read, every answer that holds byte `place` has it changed.

    A place under zero counts from the end, as the trailer and the footer do.
    """

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place
        self.spoilt = ""

    async def get_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        data = bytearray(await super().get_range(key, start, stop, etag=etag))
        if key.endswith(".des"):
            self.spoilt = self.spoilt or key
            size = (await self.head(key)).size
            place = self.place if self.place >= 0 else size + self.place
            if key == self.spoilt and start <= place < stop:
                data[place - start] ^= 1
        return bytes(data)


@pytest.mark.parametrize(
    ("place", "layout"),
    [
        (-1, "framed"),
        (-73, "framed"),
        (-200, "framed"),
        (-5000, "framed"),
        (-1, "v1"),
        (-5000, "v1"),
        (40, "v1"),
    ],
)
async def test_a_container_that_reads_back_with_one_wrong_byte_is_never_committed(
    tmp_path: Path, place: int, layout: str
) -> None:
    """In FOOTER, trailer, section table, HASHPAGES, and in a file: what is read back is proven."""
    world = World(tmp_path, layout)
    store = world.store = OneByteOff(place)
    node = await world.node()
    files = await put_some(node)
    await drain(node)
    rows = await world.catalog.containers(state=ContainerState.ABANDONED)
    assert [row.key for row in rows] == [store.spoilt]
    await settled(world, node, files)


async def test_what_was_built_is_proven_before_it_is_committed(tmp_path: Path) -> None:
    """A page that leads astray, and an INDEX of other files, are found before anything is uploaded."""
    world = World(tmp_path, "framed")
    node = await world.node()
    await put_some(node)
    packer: Any = node._packer
    (day,) = node._open_index.days()
    files = node._open_index.take(day, [0], files_max=100, bytes_max=1 << 30)
    assert len(files) > 2
    sealing = Sealing(
        "01900000-0000-7000-8000-000000000000", files[0].day, 0, 1, 1, "framed", 1, [f.seq for f in files]
    )
    async with packer._containers._builder.build(sealing, files, world.store) as built:
        check_built(built)
        with pytest.raises(ContainerUnreadableError, match="expected"):
            check_built(dataclasses.replace(built, files=files[1:]))
        with pytest.raises(ContainerUnreadableError, match="for file"):
            check_built(dataclasses.replace(built, files=files[::-1]))
        start = built.row.geometry.pages_start
        byte = built.body.pread(1, start + 100)
        built.body.data[start + 100 - built.body.start] = byte[0] ^ 1
        with pytest.raises(CorruptError):
            check_built(built)
    await node.close()
