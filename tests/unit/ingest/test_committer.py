"""Who shares a commit group, and who waits for whom."""

import asyncio
import time

import pytest

from des.ingest.committer import GATHER_MAX_S, Append, Committer
from des.ingest.record import floor_draft

SYNC_S = 0.02


class Groups:
    """Writes groups as slowly as a sync; remembers how large they were."""

    def __init__(self, sync_s: float = SYNC_S) -> None:
        self.sizes: list[int] = []
        self.sync_s = sync_s

    async def write(self, group: list[Append], *, urgent: bool) -> None:
        self.sizes.append(len(group))
        await asyncio.sleep(self.sync_s)
        for append in group:
            append.done.set_result(None)


@pytest.fixture
async def groups():
    made = Groups()
    made.committer = Committer(made.write, lambda _: None, group_bytes=1 << 20, failure=None)
    yield made
    await made.committer.close()


def append(groups: Groups) -> asyncio.Future[object]:
    return groups.committer.append(floor_draft(1))


async def test_what_waits_during_a_sync_shares_the_next(groups) -> None:
    first = append(groups)
    await asyncio.sleep(SYNC_S / 2)
    await asyncio.gather(first, *(append(groups) for _ in range(5)))
    assert groups.sizes == [1, 5]


async def test_a_group_waits_for_those_who_were_in_the_last_one(groups, monkeypatch) -> None:
    # So long that no busy machine lets the wait end before the others are there.
    monkeypatch.setattr("des.ingest.committer.GATHER_MAX_S", 60)
    groups.sync_s = 1.0
    await asyncio.gather(*(append(groups) for _ in range(4)))
    groups.sync_s = 0
    early = append(groups)
    await asyncio.sleep(SYNC_S)
    await asyncio.gather(early, *(append(groups) for _ in range(3)))
    assert groups.sizes == [4, 4]


async def test_it_does_not_wait_for_long(groups) -> None:
    await asyncio.gather(*(append(groups) for _ in range(4)))
    early = append(groups)
    await asyncio.sleep(GATHER_MAX_S * 2)
    assert groups.sizes == [4, 1]
    await early


async def test_a_lone_writer_and_writers_who_are_all_back_wait_for_nobody(groups) -> None:
    groups.sync_s = 0
    begun = time.perf_counter()
    for _ in range(50):
        await append(groups)
    for _ in range(50):
        await asyncio.gather(*(append(groups) for _ in range(4)))
    assert groups.sizes == [1] * 50 + [4] * 50
    assert time.perf_counter() - begun < 50 * GATHER_MAX_S
