"""`des serve --workers 2`: nodes of one machine behind one port, real processes over a real PostgreSQL."""

import asyncio
import os
import re
import signal
import time

import httpx
import pytest
from des_client import AsyncDesClient, PutItem

from des.testing.postgresql import temporary_postgresql
from tests.conftest import ServerProcess

WORKERS = 2
WAIT_S = 120.0
WORKER = re.compile(r'worker="(\d+)"')


@pytest.fixture
def served(tmp_path):
    with temporary_postgresql(tmp_path / "pg") as url:
        server = ServerProcess(
            tmp_path / "data",
            tmp_path / "server.log",
            {
                "DES_CATALOG_URL": url,
                "DES_CLUSTER__ENABLED": "true",
                "DES_CLUSTER__TTL_S": "5",
                "DES_SHARD_BITS": "4",
                "DES_WORKERS": str(WORKERS),
            },
        )
        try:
            yield server.start()
        finally:
            if server.alive():
                server.terminate()


async def until(look):
    """Poll until `look` gives something."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            if found := await look():
                return found
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, look
        await asyncio.sleep(0.2)


@pytest.mark.timeout(400)
async def test_workers_share_a_port_a_store_a_health_and_their_metrics(served, tmp_path):
    async with httpx.AsyncClient(base_url=f"http://{served.http}", timeout=30) as door:
        assert (await until(door_is_ready(door)))["writable"]
        async with AsyncDesClient(served.address, channels=8) as client:

            async def shared_out():
                shards = await client.shard_status()
                return len({shard.owner_node for shard in shards if shard.owner_node}) == WORKERS

            await until(shared_out)
            # Whichever worker has the connection, every file is there.
            files = {}
            for number in range(40):
                data = os.urandom(100 + number)
                files[(await client.put(data)).file.name] = data
            names = [each.name for each in await client.assign_names(40)]
            async for one in client.put_many(PutItem(name.encode(), name=name) for name in names):
                files[one.unwrap().file.name] = names[one.index].encode()
            assert [one.unwrap() async for one in client.get_many(files)] == list(files.values())
            for name, data in files.items():
                assert await client.get(name) == data
            metrics = (await door.get("/metrics")).text
            served_by = {
                found[1]
                for line in metrics.splitlines()
                if line.startswith("des_cluster_shards{") and (found := WORKER.search(line))
            }
            assert served_by == {str(number) for number in range(WORKERS)}
            shares = [
                float(line.rsplit(" ", 1)[1])
                for line in metrics.splitlines()
                if line.startswith("des_cluster_shards{")
            ]
            assert sum(shares) == 16
    assert await asyncio.to_thread(served.terminate) == 0
    assert sorted(path.name for path in (tmp_path / "data").glob("worker-*")) == ["worker-0", "worker-1"]


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_worker_that_is_killed_comes_back_with_its_files(served):
    async with httpx.AsyncClient(base_url=f"http://{served.http}", timeout=30) as door:
        ready = door_is_ready(door)
        await until(ready)
        async with AsyncDesClient(served.address, channels=8) as client:
            files = {}
            for number in range(40):
                data = os.urandom(100 + number)
                files[(await client.put(data)).file.name] = data
        spawned = [
            int(child)
            for child in await asyncio.to_thread(children, served.process.pid)
            if b"spawn_main" in command_of(child)
        ]
        assert len(spawned) == WORKERS
        os.kill(spawned[0], signal.SIGKILL)

        async def one_is_missed():
            return (await door.get("/health/ready")).status_code == 503

        await until(one_is_missed)
        await until(ready)
    async with AsyncDesClient(served.address, channels=8) as client:
        for name, data in files.items():
            assert await client.get(name, timeout_s=WAIT_S) == data


def door_is_ready(door):
    """Return a look at whether every worker is ready."""

    async def look():
        answer = await door.get("/health/ready")
        return answer.status_code == 200 and answer.json()["workers"] == WORKERS and answer.json()

    return look


def children(pid):
    """Return the processes that a process has started."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def command_of(pid):
    """Return the command line of a process."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()
