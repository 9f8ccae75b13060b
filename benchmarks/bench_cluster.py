"""What a cluster costs on one machine: calls that are sent on, or are not, and an outage when a node goes.

Over a real PostgreSQL and a shared folder; all processes share this machine's cores, so calls per second
say nothing about scaling out. `python benchmarks/bench_cluster.py`; with `--kills 3` only the loss of a node,
three times.
"""

import argparse
import asyncio
import itertools
import os
import re
import sys
import tempfile
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from random import shuffle
from statistics import median
from typing import Final

import psutil
from des_client import AsyncDesClient, DesClientError

from des.testing.postgresql import temporary_postgresql

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.conftest import ServerProcess

TTL_S: Final = 4.0
SECONDS: Final = 4.0
WARM_S: Final = 1.0
WIDTH: Final = 32
BEFORE_S: Final = 3.0
KNOCKERS: Final = 24
PAUSE_S: Final = 0.05
DATA: Final = os.urandom(4096)


def cpu_s(servers: list[ServerProcess]) -> float:
    """Return the CPU seconds that all servers have used."""
    return sum(sum(psutil.Process(s.process.pid).cpu_times()[:2]) for s in servers if s.process is not None)


async def settle(client: AsyncDesClient, nodes: int) -> dict[str, set[int]]:
    """Wait until the shards are shared out; return them by owner's address."""
    while True:
        owned: dict[str, set[int]] = {}
        for shard in await client.shard_status():
            owned.setdefault(shard.owner_address, set()).add(shard.shard_id)
        if len(owned) == nodes and "" not in owned:
            return owned
        await asyncio.sleep(0.2)


def sent_on(servers: list[ServerProcess]) -> int:
    """Return how many calls nodes have sent on to others."""
    pages = [urllib.request.urlopen(f"http://{s.http}/metrics").read().decode() for s in servers]
    counts = [re.search(r"^des_cluster_forwarded_total (\S+)", page, re.MULTILINE) for page in pages]
    return sum(int(float(count[1])) for count in counts if count)


Call = Callable[[int], Awaitable[object]]


async def rate(call: Call, servers: list[ServerProcess]) -> str:
    """Make calls with 32 in flight for a while; each is told its number."""
    numbers = itertools.count()

    async def work(seconds: float) -> int:
        done = 0
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await call(next(numbers))
            done += 1
        return done

    await asyncio.gather(*(work(WARM_S) for _ in range(WIDTH)))
    before, sent_before = cpu_s(servers), sent_on(servers)
    done = sum(await asyncio.gather(*(work(SECONDS) for _ in range(WIDTH))))
    per_call_us = 1e6 * (cpu_s(servers) - before) / max(done, 1)
    sent = (sent_on(servers) - sent_before) / max(done, 1)
    return f"{done / SECONDS:6.0f}/s, {per_call_us:6.0f} us of server CPU a call, {sent:6.1%} sent on"


async def rates(servers: list[ServerProcess]) -> None:
    """Measure puts and gets of open files, by a client that asks the owners and one that takes turns."""
    nodes = len(servers)
    targets = [server.address for server in servers]
    for follow in (False, True)[: 1 if nodes == 1 else 2]:
        async with AsyncDesClient(targets, follow=follow) as client:

            async def put(_: int, client: AsyncDesClient = client) -> None:
                await client.put(DATA)

            how = "" if nodes == 1 else ", following" if follow else ", in turn"
            print(f"{nodes} nodes, put{how}: {await rate(put, servers)}", flush=True)
            # Twice as many as are used, whatever the machine makes of it.
            free = deque([one.name for _ in range(16) for one in await client.assign_names(1000)])

            async def put_named(_: int, client: AsyncDesClient = client, free: deque[str] = free) -> None:
                await client.put(DATA, name=free.popleft())

            print(f"{nodes} nodes, put with a name{how}: {await rate(put_named, servers)}", flush=True)
            names = [(await client.put(DATA)).file.name for _ in range(500)]
            shuffle(names)  # else each would be read where it was put, or never

            async def get(number: int, client: AsyncDesClient = client, names: list[str] = names) -> None:
                await client.get(names[number % len(names)])

            print(f"{nodes} nodes, get{how}: {await rate(get, servers)}", flush=True)


async def forwarding(servers: list[ServerProcess], owned: dict[str, set[int]]) -> str:
    """Compare named puts at the owner with the same at another node, one at a time."""
    first, second = servers[0].address, servers[1].address
    async with AsyncDesClient(first) as near, AsyncDesClient(second) as far:
        names = [
            assigned.name
            for _ in range(4)
            for assigned in await near.assign_names(500)
            if assigned.shard_id in owned[first]
        ]
        took = []
        for client, some in ((near, names[:200]), (far, names[200:400])):
            begun = time.monotonic()
            used = cpu_s(servers)
            for name in some:
                await client.put(DATA, name=name)
            took.append(((time.monotonic() - begun) / 200, (cpu_s(servers) - used) / 200))
    (here_s, here_cpu), (there_s, there_cpu) = took
    return (
        f"put at the owner {1e3 * here_s:.2f} ms, {1e6 * here_cpu:.0f} us CPU; "
        f"sent on {1e3 * there_s:.2f} ms, {1e6 * there_cpu:.0f} us CPU"
    )


async def outage(servers: list[ServerProcess], owned: dict[str, set[int]], *, kill: bool) -> str:
    """Put new files into the last node's shards while it goes, without retries.

    A shard is without service from its last success before to its first after; what lies between two
    successes anyway, since each shard is tried only so often, is told beside it.
    """
    last = servers[-1]
    shards = owned[last.address]
    others = [server.address for server in servers[:-1]]
    successes: dict[int, list[float]] = {shard: [] for shard in shards}
    slowest_s = 0.0
    failures: Counter[str] = Counter()
    stop = False

    async def knock(client: AsyncDesClient) -> None:
        nonlocal slowest_s
        while not stop:
            try:
                names = await client.assign_names(16, timeout_s=5)
            except DesClientError as error:
                failures[f"assign {type(error).__name__}"] += 1
                await asyncio.sleep(PAUSE_S)
                continue
            for name, shard in [(each.name, each.shard_id) for each in names if each.shard_id in shards]:
                begun = time.monotonic()
                try:
                    await client.put(DATA, name=name, timeout_s=30)
                except DesClientError as error:
                    failures[f"put {type(error).__name__}"] += 1
                    await asyncio.sleep(PAUSE_S)
                    continue
                successes[shard].append(time.monotonic())
                slowest_s = max(slowest_s, time.monotonic() - begun)

    async with AsyncDesClient(others, retry=None) as client:
        knocking = [asyncio.create_task(knock(client)) for _ in range(KNOCKERS)]
        await asyncio.sleep(BEFORE_S)
        failures.clear()
        slowest_s, went_at = 0.0, time.monotonic()
        await asyncio.to_thread(last.kill if kill else last.terminate)
        ended_s = time.monotonic() - went_at
        await asyncio.sleep(TTL_S * 2 + 6 if kill else 4)
        stop = True
        await asyncio.gather(*knocking)
    before, across = [], []
    for times in successes.values():
        # A gap into which the end of the node fell begins there: who had asked before would have been served.
        gaps = [
            (later - (max(earlier, went_at) if later > went_at else earlier), later > went_at)
            for earlier, later in pairwise(times)
        ]
        before.append(max((gap for gap, late in gaps if not late), default=0.0))
        across.append(max((gap for gap, late in gaps if late), default=float("inf")))
    return (
        f"longest time without a success of a shard {max(across):.2f} s (median {median(across):.2f} s, "
        f"before that {max(before):.2f} s), slowest call {slowest_s:.2f} s, failed without retries "
        f"{dict(failures)}, the process ended after {ended_s:.2f} s"
    )


async def lose_one(servers: list[ServerProcess], *, kill: bool) -> str:
    """Measure the end of the last of three nodes; it is back afterwards, and the shards are shared anew."""
    async with AsyncDesClient([s.address for s in servers]) as client:
        owned = await settle(client, len(servers))
        told = await outage(servers, owned, kill=kill)
        servers[-1].start()
        await settle(client, len(servers))
    return told


async def main(folder: Path, url: str, kills: int) -> None:
    """Measure with one node, then two, then three; with `kills` only that many losses of one of three."""
    environment = {
        "DES_CATALOG_URL": url,
        "DES_OBJECT_DIR": str(folder / "objects"),
        "DES_CLUSTER__ENABLED": "true",
        "DES_CLUSTER__TTL_S": str(TTL_S),
    }
    servers: list[ServerProcess] = []
    try:
        for number in range(3):
            servers.append(
                ServerProcess(folder / f"n{number}", folder / f"n{number}.log", environment).start()
            )
            if kills:
                continue
            async with AsyncDesClient([s.address for s in servers]) as client:
                owned = await settle(client, number + 1)
            await rates(servers)
        if not kills:
            print(await forwarding(servers, owned), flush=True)
            print(f"SIGTERM: {await lose_one(servers, kill=False)}", flush=True)
        for _ in range(max(kills, 1)):
            print(
                f"kill -9 with a time to live of {TTL_S} s: {await lose_one(servers, kill=True)}", flush=True
            )
    finally:
        for server in servers:
            if server.alive():
                server.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0, help="measure only that many losses of a node")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, temporary_postgresql(Path(made) / "pg") as where:
        asyncio.run(main(Path(made), where, asked.kills))
