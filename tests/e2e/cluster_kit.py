"""A cluster of real server processes over a real PostgreSQL and a real S3 server, with a network to cut."""

import asyncio
import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from des_client import AsyncDesClient, Durability

from des.config import S3Settings
from des.core import DesReader
from des.db import ContainerState, DesDbConnector, SqlCatalog
from des.testing.history import Answer, Call, lost, violations
from des.testing.postgresql import TemporaryPostgresql, restartable_postgresql
from des.testing.s3_server import BUCKET, temporary_s3
from des.testing.tcp_proxy import Link, TcpProxy
from tests.conftest import ServerProcess
from tests.e2e.cluster_traffic import Traffic

TTL_S: Final = 3.0
SETTLE_S: Final = 120.0


class Member:
    """One server process, and the links by which it reaches what it needs and others reach it."""

    def __init__(self, number: int, cluster: "Cluster", *, proxies_at: str = "127.0.0.1") -> None:
        self.number = number
        listen = (proxies_at, 0)
        self.to_catalog = TcpProxy(cluster.postgresql.socket, listen=listen).start()
        self.to_store = TcpProxy(cluster.s3_target, listen=listen).start()
        self.from_peers = TcpProxy(("127.0.0.1", 1)).start()
        self.process = ServerProcess(
            cluster.folder / f"node-{number}",
            cluster.folder / f"node-{number}.log",
            cluster.environment
            | {
                "DES_CATALOG_URL": f"postgresql://postgres@{self.to_catalog.address}/postgres",
                "DES_S3__ENDPOINT_URL": f"http://{self.to_store.address}",
                "DES_CLUSTER__ADVERTISE": self.from_peers.address,
            },
        )

    def start(self) -> None:
        self.process.start()
        host, _, port = self.process.address.rpartition(":")
        self.from_peers.aim((host, int(port)))

    def pause(self) -> None:
        assert self.process.process is not None
        self.process.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process.process is not None
        self.process.process.send_signal(signal.SIGCONT)

    def link(self, link: Link) -> None:
        """Change the network between this node and everything but clients."""
        for proxy in (self.to_catalog, self.to_store, self.from_peers):
            proxy.set(link)

    def close(self) -> None:
        if self.process.alive():
            self.resume()
            self.process.kill()
        for proxy in (self.to_catalog, self.to_store, self.from_peers):
            proxy.stop()


class Cluster:
    """Nodes that share a catalog and a store."""

    member_type: type[Member] = Member

    def __init__(
        self, folder: Path, postgresql: TemporaryPostgresql, s3: S3Settings, environment: dict[str, str]
    ) -> None:
        self.folder = folder
        self.postgresql = postgresql
        self.s3 = s3
        host, _, port = s3.endpoint_url.removeprefix("http://").rpartition(":")
        self.s3_target = (host, int(port))
        self.environment = {
            "DES_OBJECT_STORE": f"s3://{BUCKET}/{folder.name}",
            "DES_S3__REGION": s3.region,
            "DES_S3__ACCESS_KEY_ID": s3.access_key_id.get_secret_value(),
            "DES_S3__SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
            "DES_S3__READ_TIMEOUT_S": "5",
            "DES_S3__DEADLINE_S": "10",
            "DES_CLUSTER__ENABLED": "true",
            "DES_CLUSTER__TTL_S": str(TTL_S),
            "DES_SEAL__AGE_S": "4",
            "DES_SEAL__CHECK_INTERVAL_S": "0.5",
            "DES_SEAL__RETRY_S": "0.5",
            "DES_SEAL__USEFUL_BYTES": "2000000",
            "DES_LOG__SEGMENT_BYTES": "8000000",
            "DES_LOG__RECLAIM_DELAY_S": "2",
            "DES_DRAIN_S": "20",
        } | environment
        self.members: list[Member] = []

    def add(self) -> Member:
        """Start one more node."""
        member = self.member_type(len(self.members), self)
        self.members.append(member)
        member.start()
        return member

    @property
    def targets(self) -> list[str]:
        return [member.process.address for member in self.members]

    @property
    def http_targets(self) -> list[str]:
        """Where nodes serve HTTP."""
        return [member.process.http for member in self.members]

    @asynccontextmanager
    async def catalog(self) -> AsyncIterator[SqlCatalog]:
        catalog = SqlCatalog(DesDbConnector(self.postgresql.url))
        try:
            yield catalog
        finally:
            await catalog.close()

    def operator_environment(self) -> dict[str, str]:
        """What a command needs that reaches database and store past the nodes' proxies."""
        return {
            "DES_DATA_DIR": str(self.folder / "operator"),
            "DES_CATALOG_URL": self.postgresql.url,
            "DES_S3__ENDPOINT_URL": self.s3.endpoint_url,
        }

    async def shard_bits(self) -> int:
        """Return how the store is divided now."""
        async with self.catalog() as catalog:
            sharding = (await catalog.cluster_view()).sharding
        assert sharding is not None
        return sharding.bits

    async def settled(self) -> None:
        """Wait until every node has its share and nothing is owed."""

        async def look() -> bool:
            async with self.catalog() as catalog:
                view = await catalog.cluster_view()
            alive = {node.holder for node in view.nodes if view.lives(node)}
            shares = Counter(lock.holder for lock in view.locks if lock.expires_ms > view.now_ms)
            fair = max(shares.values(), default=0) <= -(-len(view.locks) // len(self.members)) + 1
            owed = [estate for estate in view.estates if estate.owed]
            return (
                len(alive) == len(self.members)
                and view.sharding is not None
                and sum(shares.values()) == 1 << view.sharding.bits
                and set(shares) == alive
                and fair
                and not owed
            )

        deadline = time.monotonic() + SETTLE_S
        while not await look():
            assert time.monotonic() < deadline, "the cluster does not settle"
            await asyncio.sleep(0.2)

    async def all_sealed(self) -> None:
        """Wait until nothing is open."""
        deadline = time.monotonic() + SETTLE_S
        async with AsyncDesClient(self.targets) as client:
            while True:
                found = await client.shard_status()
                if not any(shard.open_files or shard.last_error for shard in found):
                    return
                assert time.monotonic() < deadline, [s for s in found if s.open_files or s.last_error][:3]
                await asyncio.sleep(0.3)

    async def names_in_containers(self) -> Counter[str]:
        """Read every stored container from the bucket, every byte checked, and count names."""
        names: Counter[str] = Counter()
        client = boto3.client(
            "s3",
            endpoint_url=self.s3.endpoint_url,
            region_name=self.s3.region,
            aws_access_key_id=self.s3.access_key_id.get_secret_value(),
            aws_secret_access_key=self.s3.secret_access_key.get_secret_value(),
            config=Config(retries={"max_attempts": 3}),
        )
        async with self.catalog() as catalog:
            rows = await catalog.containers(state=ContainerState.STORED)
        for row in rows:
            path = self.folder / "one.des"
            await asyncio.to_thread(client.download_file, BUCKET, f"{self.folder.name}/{row.key}", str(path))
            ext_start = row.geometry.index_start + row.geometry.index_length
            assert hashlib.sha256(path.read_bytes()[ext_start:]).hexdigest() == row.sha256
            with DesReader(path) as reader:
                names.update(reader.list_files())
        return names

    def fsck(self) -> None:
        """Run `des fsck` over all bytes, as an operator would; it must find nothing."""
        done = subprocess.run(
            [sys.executable, "-m", "des.cli", "fsck", "--read-data", "--json"],
            capture_output=True,
            text=True,
            timeout=SETTLE_S * 2,
            check=False,
            env=os.environ | self.environment | self.operator_environment(),
        )
        assert done.returncode == 0, f"des fsck: {done.stdout[-4000:]}{done.stderr[-4000:]}"

    def close(self) -> None:
        for member in self.members:
            member.close()


@contextmanager
def running_cluster(
    folder: Path,
    nodes: int,
    environment: dict[str, str] | None = None,
    *,
    cluster_type: type[Cluster] = Cluster,
) -> Iterator[Cluster]:
    """Run a cluster; everything of it is gone afterwards."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # moto's server would log every request
    with restartable_postgresql(folder / "pg") as postgresql, temporary_s3(folder / "s3") as (s3, _):
        cluster = cluster_type(folder, postgresql, s3, environment or {})
        try:
            for _ in range(nodes):
                cluster.add()
            yield cluster
        finally:
            cluster.close()


async def watch_epochs(cluster: Cluster, stop: asyncio.Event) -> list[str]:
    """Look at the locks all the time; return where an epoch went back."""
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


async def judge(cluster: Cluster, traffic: Traffic) -> dict[str, int]:
    """Heal, wait until nothing is owed, read everything, and hold it against the history."""
    await cluster.settled()
    await traffic.read_all()
    await cluster.all_sealed()
    await traffic.read_all()
    wrong = violations(traffic.events)
    assert wrong == [], told(traffic, wrong)
    gone = lost(traffic.events)
    assert gone == [], told(traffic, gone)
    # All that was acknowledged as stored, and that nobody tried to delete, is among what was read last.
    read = {event.name for event in traffic.events if event.call is Call.GET and event.answer is Answer.DONE}
    assert traffic.stored & traffic.kept <= read, told(traffic, sorted(traffic.stored & traffic.kept - read))
    counts = await cluster.names_in_containers()
    doubled = sorted(name for name, count in counts.items() if count != 1)
    assert doubled == [], told(traffic, doubled)
    missing = sorted(traffic.kept - set(counts))
    assert missing == [], told(traffic, missing)
    await asyncio.to_thread(cluster.fsck)
    async with cluster.catalog() as catalog:
        highest = {lock.shard: lock.epoch for lock in await catalog.shard_locks()}
        sharding = (await catalog.cluster_view()).sharding
        rows = await catalog.containers()
    assert sharding is not None
    for row in rows:
        assert row.epoch <= max(highest[s] for s in row.run.shards(sharding.bits)), row
    # What was announced for a shard carries epochs that never go back; a row of many shards has the highest.
    # (A seal that is repeated after a restart is stored under a later epoch than its row was made with.)
    single = sorted(
        ((row.run.bits, row.run.first), row.created_ms, row.epoch) for row in rows if row.run.span == 1
    )
    for (shard, _, epoch), (next_shard, _, next_epoch) in pairwise(single):
        assert shard != next_shard or epoch <= next_epoch, f"shard {shard}: {next_epoch} after {epoch}"
    return {
        "calls": sum(traffic.kinds.values()),
        "answers": len(traffic.events),
        "acknowledged": len(traffic.acknowledged),
        "stored": len(traffic.stored),
        "deleted": len(traffic.deleted),
        "lost": 0,
        "doubled": 0,
        "failed calls": sum(traffic.failures.values()),
    }


def told(traffic: Traffic, lines: list[str]) -> str:
    """Return what is wrong with the first few names, and all that clients were told of them."""
    names = [line.split(":")[0] for line in lines[:5]]
    started = traffic.events[0].began
    history = [
        f"  {event.began - started:.3f} to {event.ended - started:.3f}: {event.call} {event.name} "
        f"{event.answer} {event.content[:8]}"
        for event in traffic.events
        if event.name in names
    ]
    return "\n".join([f"{len(lines)} names", *lines[:5], *history])


Fault = Callable[[Cluster, random.Random], Any]


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


async def torture(
    cluster: Cluster,
    faults: list[Fault],
    *,
    seed: int,
    durabilities: tuple[Durability | None, ...] = (None, Durability.STORED),
) -> dict[str, int]:
    """Let clients work while `faults` happen one after the other, then judge what they saw."""
    dice = random.Random(seed)
    traffic = Traffic(cluster, seed, durabilities)
    stop = asyncio.Event()
    watching = asyncio.create_task(watch_epochs(cluster, stop))
    working = asyncio.create_task(traffic.run(8))
    try:
        await asyncio.sleep(1.0)
        for fault in faults:
            said = await fault(cluster, dice)
            print(
                f"  {said}; {len(traffic.acknowledged)} acknowledged ({len(traffic.stored)} as stored), "
                f"{len(traffic.deleted)} deleted, failed {dict(traffic.failures)}",
                flush=True,
            )
            await asyncio.sleep(dice.uniform(0.5, 3.0))
            assert not working.done(), working
        await cluster.settled()
    finally:
        traffic.stop()
        stop.set()
    await working
    assert await watching == []
    counts = await judge(cluster, traffic)
    print(f"  seed {seed}: {len(faults)} faults, {counts}, failed {dict(traffic.failures)}")
    print(f"  calls {dict(traffic.kinds)}")
    for kind, message in sorted(traffic.last_failures.items()):
        print(f"  {kind}: {message[:300]}")
    return counts
