"""A cluster of real server processes over a real PostgreSQL and a real S3 server, with a network to cut."""

import asyncio
import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import boto3
from botocore.config import Config
from des_client import AsyncDesClient

from des.config import S3Settings
from des.core import DesReader
from des.db import ContainerState, DesDbConnector, SqlCatalog
from des.testing.postgresql import TemporaryPostgresql, restartable_postgresql
from des.testing.s3_server import BUCKET, temporary_s3
from des.testing.tcp_proxy import Link, TcpProxy
from tests.conftest import ServerProcess

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
            "DES_BIG_FILE_BYTES": "9000000",
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

    def fsck(self) -> str:
        """Run `des fsck` over all bytes, as an operator would; return what it found, empty for nothing."""
        done = subprocess.run(
            [sys.executable, "-m", "des.cli", "fsck", "--read-data", "--json"],
            capture_output=True,
            text=True,
            timeout=SETTLE_S * 2,
            check=False,
            env=os.environ | self.environment | self.operator_environment(),
        )
        return f"{done.stdout[-4000:]}{done.stderr[-4000:]}" if done.returncode else ""

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
