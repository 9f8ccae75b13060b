"""Fail the N-th disk call, once and for ever, for every N until the scenario completes unhurt."""

import contextlib
import errno
from random import Random

import pytest

from des.errors import DesError
from des.ingest.errors import LogFailedError
from des.ingest.values import Sealing
from des.testing.log_mutilations import CONTENTS, draft, open_log
from des.testing.log_schedules import DAY
from des.testing.simulated_disk import Fault, PowerCut, SimulatedDisk
from des.testing.unsynced import Loss

CALLS_MAX = 400


class Outcome:
    def __init__(self) -> None:
        self.acknowledged: dict[str, bytes] = {}
        self.stored: set[str] = set()


async def scenario(disk: SimulatedDisk, outcome: Outcome) -> None:
    """Two starts with everything a node does to its log."""
    for epoch in (1, 2):
        log, recovered = await open_log(disk, epoch)
        files = list(recovered.files)
        try:
            for key, data in CONTENTS.items():
                name = f"{epoch}-{key}"
                with contextlib.suppress(DesError):
                    files.append(await log.append_file(draft(name, data)))
                    outcome.acknowledged[name] = data
            with contextlib.suppress(DesError):
                await log.append_floor(epoch * 1000)
                await log.append_sealing(
                    Sealing("c", DAY, 0, 1, 8, "framed", 1, [file.seq for file in files])
                )
                await log.append_stored("c", "etag")
            old = files[: len(files) // 2]
            outcome.stored.update(file.name for file in old)
            log.mark_stored(old)
            with contextlib.suppress(DesError):
                await log.reclaim()
        finally:
            if epoch == 1 and not disk.off:
                disk.restart()  # killed: the second start finds an unfinished tail
            with contextlib.suppress(PowerCut):
                await log.close()
        if disk.off:
            raise PowerCut


async def check(disk: SimulatedDisk, outcome: Outcome) -> None:
    log, recovered = await open_log(disk, 9)
    try:
        assert recovered.damage == []
        names = [file.name for file in recovered.files]
        assert len(names) == len(set(names))
        assert set(outcome.acknowledged) - outcome.stored <= set(names)
        for file in recovered.files:
            if file.name in outcome.acknowledged:
                data = b"".join([await log.reader.read(extent) for extent in file.extents])
                assert outcome.acknowledged[file.name] == data
    finally:
        await log.close()


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("loss", [Loss.NONE, Loss.ALL, Loss.SUBSET])
async def test_any_failing_call_costs_no_acknowledged_file(code, forever, loss):
    for number in range(1, CALLS_MAX):
        disk = SimulatedDisk(Random(number))
        disk.faults.append(Fault(number, code, forever=forever))
        outcome = Outcome()
        with contextlib.suppress(DesError, PowerCut):
            await scenario(disk, outcome)
        unhurt = disk.calls < number
        disk.crash(loss)
        await check(disk, outcome)
        if unhurt:
            assert len(outcome.acknowledged) == 2 * len(CONTENTS)
            break
    else:
        pytest.fail(f"the scenario did not complete within {CALLS_MAX} calls")


@pytest.mark.parametrize("loss", [Loss.NONE, Loss.ALL, Loss.SUBSET])
async def test_a_power_cut_at_any_call_and_at_any_call_of_the_next_start_loses_nothing(loss):
    for number in range(1, CALLS_MAX, 2):
        for second in range(1, 31, 3):
            disk = SimulatedDisk(Random(number * 100 + second))
            disk.cut_at = number
            outcome = Outcome()
            with contextlib.suppress(PowerCut):
                await scenario(disk, outcome)
            if not disk.off:
                return
            disk.crash(loss)
            disk.cut_at = disk.calls + second
            with contextlib.suppress(PowerCut):
                await check(disk, outcome)
            disk.crash(loss)
            await check(disk, outcome)
    pytest.fail(f"the scenario did not complete within {CALLS_MAX} calls")


async def test_a_failed_sync_is_never_healed_by_a_later_one():
    """fsyncgate: the pages are dropped, look clean, and every later sync succeeds."""
    disk = SimulatedDisk(Random(4))
    log, _ = await open_log(disk, 1)
    kept = await log.append_file(draft("kept", b"kept"))
    disk.faults.append(Fault(disk.calls + 1, errno.EIO, only="sync"))
    with pytest.raises(LogFailedError):
        await log.append_file(draft("lost", b"lost"))
    with pytest.raises(LogFailedError):
        await log.append_file(draft("later", b"later"))
    assert await log.reader.read(kept.extents[0]) == b"kept"
    assert log.failure is not None
    assert log.failure.reason == "LOG_FAILED"
    await log.close()

    # The process starts again; memory still shows the record that the device never took.
    disk.restart()
    log, recovered = await open_log(disk, 2)
    shown = [file.name for file in recovered.files]
    assert "kept" in shown
    await log.close()
    disk.crash(Loss.NONE)
    log, recovered = await open_log(disk, 3)
    assert shown == [file.name for file in recovered.files]
    await log.close()
