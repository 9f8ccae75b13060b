"""What happens to a cluster while clients work: nodes, links, database and object store fail, in turn."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

from des.testing.tcp_proxy import Link
from tests.e2e.cluster_kit import SETTLE_S, TTL_S, Cluster

Fault = Callable[..., Awaitable[str]]
"""Does it to a cluster, with dice for what is left open; says what was done."""


async def kill_and_restart(cluster: Cluster, dice: random.Random) -> str:
    member = dice.choice(cluster.members)
    away_s = dice.choice([0.0, TTL_S * 2])
    await asyncio.to_thread(member.process.kill)
    await asyncio.sleep(away_s)
    await asyncio.to_thread(member.start)
    return f"kill -9 of node {member.number}, back after {away_s} s"


async def pause_and_resume(cluster: Cluster, dice: random.Random) -> str:
    member = dice.choice(cluster.members)
    member.pause()
    await asyncio.sleep(TTL_S * 3.2)
    member.resume()
    return f"node {member.number} stopped for three times its time to live"


async def restart_postgresql(cluster: Cluster, dice: random.Random) -> str:
    crash = dice.random() < 0.5
    await asyncio.to_thread(cluster.postgresql.restart, crash=crash)
    return f"PostgreSQL {'crashed' if crash else 'restarted'}"


async def store_down(cluster: Cluster, dice: random.Random) -> str:
    return await _store_down(cluster, dice, dice.choice([2.0, 8.0]))


async def store_down_briefly(cluster: Cluster, dice: random.Random) -> str:
    return await _store_down(cluster, dice, 2.0)


async def store_down_for_long(cluster: Cluster, dice: random.Random) -> str:
    return await _store_down(cluster, dice, 30.0)


async def _store_down(cluster: Cluster, dice: random.Random, down_s: float) -> str:
    link = dice.choice([Link.REFUSING, Link.SILENT])
    for member in cluster.members:
        await asyncio.to_thread(member.to_store.set, link)
    await asyncio.sleep(down_s)
    for member in cluster.members:
        await asyncio.to_thread(member.to_store.set, Link.UP)
    return f"object store {link.value} for {down_s} s"


async def cut_off(cluster: Cluster, dice: random.Random) -> str:
    member = dice.choice(cluster.members)
    link = dice.choice([Link.REFUSING, Link.SILENT])
    cut_s = dice.choice([TTL_S / 2, TTL_S * 2])
    await asyncio.to_thread(member.link, link)
    await asyncio.sleep(cut_s)
    await asyncio.to_thread(member.link, Link.UP)
    return f"node {member.number} cut off ({link.value}) for {cut_s} s"


async def rolling_restart(cluster: Cluster, dice: random.Random) -> str:
    for member in dice.sample(cluster.members, len(cluster.members)):
        code = await asyncio.to_thread(member.process.terminate)
        assert code == 0
        await asyncio.to_thread(member.start)
    return "rolling restart"


async def ask_for_shards(cluster: Cluster, bits: int) -> None:
    """Ask for `2**bits` shards at once, as an operator does."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "des.cli", "shard-bits", str(bits), "--now", "--json"],
        capture_output=True,
        text=True,
        timeout=SETTLE_S,
        check=False,
        env=os.environ | cluster.environment | cluster.operator_environment(),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["next_shard_bits"] == bits


async def divided(cluster: Cluster, bits: int) -> None:
    """Wait until the store has `2**bits` shards, and all are served."""
    deadline = time.monotonic() + SETTLE_S
    while await cluster.shard_bits() != bits:
        assert time.monotonic() < deadline, f"the store is not divided into 2**{bits} shards"
        await asyncio.sleep(0.1)
    await cluster.settled()


async def divide_anew(cluster: Cluster, dice: random.Random) -> str:
    return await _divide_anew(cluster, dice, killing=False)


async def divide_anew_and_kill(cluster: Cluster, dice: random.Random) -> str:
    return await _divide_anew(cluster, dice, killing=True)


async def _divide_anew(cluster: Cluster, dice: random.Random, *, killing: bool) -> str:
    before = await cluster.shard_bits()
    bits = dice.choice([bits for bits in range(4, 10) if bits != before])
    killed = ""
    await ask_for_shards(cluster, bits)
    if killing:
        await asyncio.sleep(dice.uniform(0.0, 3.0))
        member = dice.choice(cluster.members)
        away_s = dice.choice([0.0, TTL_S * 2])
        await asyncio.to_thread(member.process.kill)
        await asyncio.sleep(away_s)
        await asyncio.to_thread(member.start)
        killed = f", kill -9 of node {member.number} meanwhile, back after {away_s} s"
    await divided(cluster, bits)
    return f"divided into {1 << bits} shards instead of {1 << before}{killed}"


FAULTS: Final[tuple[Fault, ...]] = (
    kill_and_restart,
    pause_and_resume,
    restart_postgresql,
    store_down,
    store_down_for_long,
    cut_off,
    rolling_restart,
    divide_anew,
    divide_anew_and_kill,
)
