"""Clients work while faults happen; then everything is read and held against what clients were told."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise

from des_client import Durability

from des.testing.history import lost, violations
from tests.e2e.cluster_faults import Fault
from tests.e2e.cluster_kit import Cluster
from tests.e2e.cluster_traffic import Traffic
from tests.e2e.cluster_verdict import Kind, Verdict
from tests.e2e.cluster_watch import ShardFollower


async def torture(
    cluster: Cluster,
    faults: Sequence[Fault],
    *,
    seed: int,
    durabilities: tuple[Durability | None, ...] = (None, Durability.STORED),
) -> Verdict:
    """Let clients work while `faults` happen one after the other, then judge what they saw.

    Raises:
        AssertionError: the verdict is not clean; it says of what, and all that clients were told of that is
            in `history.jsonl` of the cluster's folder.
    """
    dice = random.Random(seed)
    traffic = Traffic(cluster, seed, durabilities)
    verdict = Verdict(seed, len(faults), traffic)
    follower = ShardFollower(cluster, traffic)
    following = asyncio.create_task(follower.run())
    try:
        async with _epochs_watched(cluster, verdict):
            await _work(cluster, traffic, faults, dice, verdict)
        await _judge(cluster, traffic, follower, verdict)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        # Broken off or not: what was counted up to here.
        print("\n".join(f"  {line}" for line in verdict.lines()), flush=True)
        if not verdict.is_clean():
            verdict.write_history(cluster.folder / "history.jsonl")
    assert verdict.is_clean(), verdict.told()
    return verdict


async def _work(
    cluster: Cluster, traffic: Traffic, faults: Sequence[Fault], dice: random.Random, verdict: Verdict
) -> None:
    working = asyncio.create_task(traffic.run(8))
    try:
        await asyncio.sleep(1.0)
        for fault in faults:
            begun = datetime.now(UTC)
            said = await fault(cluster, dice)
            verdict.faults.append(fault.__name__)
            print(
                f"  {begun:%H:%M:%S} to {datetime.now(UTC):%H:%M:%S} {said}; "
                f"{len(traffic.acknowledged)} names acknowledged ({len(traffic.stored)} as stored), "
                f"{len(traffic.deleted)} deleted, failed {dict(traffic.failures)}",
                flush=True,
            )
            await asyncio.sleep(dice.uniform(0.5, 3.0))
            assert not working.done(), working
        await cluster.settled()
    finally:
        traffic.stop()
    await working


async def _judge(cluster: Cluster, traffic: Traffic, follower: ShardFollower, verdict: Verdict) -> None:
    """Heal, wait until nothing is owed, read everything, and hold it against the history."""
    await cluster.settled()
    await traffic.read_all()
    await cluster.all_sealed()
    await traffic.read_all()
    verdict.find(Kind.WATCH, [("", line) for line in await follower.differences()])
    verdict.find(Kind.TOLD_WRONG, [(one.name, one.why) for one in violations(traffic.events)])
    verdict.find(
        Kind.LOST, [(name, "was acknowledged, and the last read failed") for name in lost(traffic.events)]
    )
    counts = await cluster.names_in_containers()
    missing = sorted(traffic.kept - set(counts))
    verdict.find(Kind.LOST, [(name, "was acknowledged, and is in no container") for name in missing])
    doubled = sorted((name, count) for name, count in counts.items() if count != 1)
    verdict.find(Kind.DOUBLED, [(name, f"is in {count} containers") for name, count in doubled])
    verdict.find(Kind.REFUSED, [("", line) for line in traffic.unexpected])
    if said := await asyncio.to_thread(cluster.fsck):
        verdict.find(Kind.FSCK, [("", said)])
    verdict.find(Kind.EPOCH, [("", line) for line in await _epochs_of_containers(cluster)])
    verdict.judged = True


async def _epochs_of_containers(cluster: Cluster) -> list[str]:
    async with cluster.catalog() as catalog:
        highest = {lock.shard: lock.epoch for lock in await catalog.shard_locks()}
        sharding = (await catalog.cluster_view()).sharding
        rows = await catalog.containers()
    assert sharding is not None
    found = [
        f"container {row.container_id} has epoch {row.epoch}, later than the locks of its shards"
        for row in rows
        if row.epoch > max(highest[shard] for shard in row.run.shards(sharding.bits))
    ]
    # What was announced for a shard carries epochs that never go back; a row of many shards has the highest.
    # (A seal that is repeated after a restart is stored under a later epoch than its row was made with.)
    single = sorted(
        ((row.run.bits, row.run.first), row.created_ms, row.epoch) for row in rows if row.run.span == 1
    )
    for (shard, _, epoch), (next_shard, _, next_epoch) in pairwise(single):
        if shard == next_shard and epoch > next_epoch:
            found.append(f"shard {shard}: a container of epoch {next_epoch} after one of {epoch}")
    return found


@asynccontextmanager
async def _epochs_watched(cluster: Cluster, verdict: Verdict) -> AsyncIterator[None]:
    """Look at the locks all the time, for epochs that go back."""
    stop = asyncio.Event()
    watching = asyncio.create_task(_watch_epochs(cluster, stop))
    try:
        yield
    finally:
        stop.set()
        verdict.find(Kind.EPOCH, [("", line) for line in await watching])


async def _watch_epochs(cluster: Cluster, stop: asyncio.Event) -> list[str]:
    highest: dict[int, int] = {}
    found: list[str] = []
    async with cluster.catalog() as catalog:
        while not stop.is_set():
            try:
                locks = await catalog.shard_locks()
            except Exception:
                locks = []
            for lock in locks:
                if lock.epoch < highest.get(lock.shard, 0):
                    found.append(f"shard {lock.shard}: epoch {lock.epoch} after {highest[lock.shard]}")
                highest[lock.shard] = max(lock.epoch, highest.get(lock.shard, 0))
            await asyncio.sleep(0.1)
    return found
