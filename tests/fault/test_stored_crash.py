"""What was acknowledged as stored survives the loss of its node, whatever failed on the way (I1, I3, I9).

The real node runs over simulated doors. The N-th call through the doors to catalog and object store
fails, before or after its effect, for every N until the puts get through unhurt. Then the node is gone,
with its disk or without, and another start has to have every file that was acknowledged.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from des.db.rows import LogSegmentState
from des.errors import DesError
from des.ingest import shipped
from des.packer.log_shipper import LogShipper
from des.packer.shipments import Shipments
from des.packer.shipped_log import Replay
from tests.fault.simulated_world import Crash, Trap
from tests.fault.stored_world import (
    World,
    contents,
    drain,
    let_go,
    put_all,
    read_back,
    settled,
    unavailable,
)

CALLS_MAX = 60


@pytest.mark.parametrize("disk_lost", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_call_of_shipping_loses_nothing_acknowledged(
    tmp_path: Path, when: str, *, disk_lost: bool
) -> None:
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, object_bytes=64 << 10)
        trap = Trap(number, when, lambda _: Crash())
        trap.armed = False
        node = await world.node(trap)
        trap.armed = True
        files, failed = await put_all(node)
        assert bool(failed) == trap.sprung or files
        await (world.lose(node) if disk_lost else world.power_cut(node))
        await settled(world, await world.node(), files)
        if not trap.sprung:
            assert len(files) == len(contents())
            assert number > 6
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


@pytest.mark.parametrize("when", ["before", "after", "late"])
async def test_a_call_that_is_not_answered_only_delays(tmp_path: Path, when: str) -> None:
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, object_bytes=64 << 10)
        trap = Trap(number, when, unavailable)
        trap.armed = False
        node = await world.node(trap)
        trap.armed = True
        files, failed = await put_all(node)
        assert failed == []
        trap.armed = False
        if number % 2:
            await world.lose(node)
            node = await world.node()
        await settled(world, node, files)
        if not trap.sprung:
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_call_of_a_take_over_changes_nothing(tmp_path: Path, when: str) -> None:
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, object_bytes=64 << 10)
        node = await world.node()
        files, failed = await put_all(node)
        assert failed == []
        await world.lose(node)
        trap = Trap(number, when, lambda _: Crash())
        try:
            node = await world.node(trap)
            await drain(node)
            await let_go(world, node)
        except (Crash, DesError):
            pass
        world.disk.crash()
        await settled(world, await world.node(), files)
        if not trap.sprung:
            assert number > 6
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


async def test_segments_go_after_their_files_are_in_containers_and_not_sooner(tmp_path: Path) -> None:
    world = World(tmp_path)
    node = await world.node()
    files, _ = await put_all(node)
    await node._parts.shipper.clean()
    assert {row.state for row in await world.catalog.log_segments()} == {LogSegmentState.HELD}
    await drain(node)
    await node._packer.step()
    await node._parts.shipper.clean()
    assert {row.state for row in await world.catalog.log_segments()} == {LogSegmentState.HELD}
    world.clock.advance(101)
    await node._packer.step()
    await node._parts.shipper.clean()
    assert {row.state for row in await world.catalog.log_segments()} == {LogSegmentState.RELEASED}
    assert await world.objects("_log/")
    world.clock.advance(101)
    await node._parts.shipper.clean()
    assert await world.catalog.log_segments() == []
    assert await world.objects("_log/") == []
    await read_back(node, files)
    await node.close()


# --- these tests can fail ------------------------------------------------------------------------


def acknowledge_before_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: an object without a row is taken for stored."""
    original = LogShipper._record

    async def record(self: Any, segment: Any, info: Any) -> None:
        for file in segment.files:
            self.waits.settle(file)
        await asyncio.sleep(0)
        await original(self, segment, info)

    monkeypatch.setattr(LogShipper, "_record", record)


def acknowledge_before_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the local disk is taken for the object store."""

    async def wait(self: Any, files: Any) -> Any:
        for file in files:
            self.waits.enter(file)
        return [None] * len(files)

    monkeypatch.setattr(LogShipper, "wait_stored", wait)


def release_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a segment counts as needed by nobody."""

    def due(self: Any) -> Any:
        return [(shipment.row, list(shipment.row.shards)) for shipment in self._known.values()]

    monkeypatch.setattr(Shipments, "due", due)


def ship_the_first_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: of the files that wait together one is in the object."""

    def encode(files: Any, **place: Any) -> bytes:
        return shipped.encode_shipped(files[:1], **place)

    monkeypatch.setattr("des.packer.log_shipper.encode_shipped", encode)


def replay_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the next owner starts without what was shipped."""

    async def take_over(self: Any, shards: Any) -> Any:
        return Replay()

    monkeypatch.setattr("des.packer.shipped_log.ShippedLog.take_over", take_over)


@pytest.mark.parametrize(
    "mutant",
    [
        acknowledge_before_the_row,
        acknowledge_before_the_object,
        release_what_is_open,
        ship_the_first_only,
        replay_nothing,
    ],
)
async def test_these_tests_catch_shipping_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutant(monkeypatch)
    scenarios: list[Callable[[], Awaitable[None]]] = [
        lambda: test_a_crash_at_any_call_of_shipping_loses_nothing_acknowledged(
            tmp_path, "before", disk_lost=True
        ),
        lambda: test_segments_go_after_their_files_are_in_containers_and_not_sooner(tmp_path),
    ]
    caught = 0
    for scenario in scenarios:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await scenario()
        except (AssertionError, DesError, KeyError, ValueError, pytest.fail.Exception):
            caught += 1
    assert caught
