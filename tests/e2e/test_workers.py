"""`des serve --workers 2`: nodes of one machine behind one port, real processes over a real PostgreSQL."""

import asyncio
import contextlib
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from urllib.parse import quote

import httpx
import pytest
from des_client import AsyncDesClient, DeadlineExceeded, FileMissing, PutItem, TlsConfig, Unavailable
from des_server.dashboard.page import document
from des_server.security.authenticate import api_key_file
from des_server.security.principal import Grant, Verb

from des.clock import SystemClock
from des.config import Settings
from des.testing.authority import HERE, Authority
from des.testing.postgresql import temporary_postgresql
from tests.conftest import ServerProcess

WORKERS = 2
WAIT_S = 120.0
WORKER = re.compile(r'worker="(\d+)"')


@contextlib.contextmanager
def serving(tmp_path, environment):
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
            }
            | environment,
        )
        try:
            yield server.start()
        finally:
            if server.alive():
                server.terminate()


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path, {}) as server:
        yield server


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


@pytest.fixture
def secured(tmp_path):
    """The same behind TLS, with API keys."""
    authority = Authority(tmp_path, "nodes")
    cert, key = authority.issue(tmp_path, "node", *HERE)
    more = {
        "DES_TLS__CERT": str(cert),
        "DES_TLS__KEY": str(key),
        "DES_CLUSTER__CA": str(authority.path),
        "DES_CLUSTER__KEY": "one-key-of-these-workers-and-no-other",
        "DES_AUTH__API_KEYS": "true",
    }
    with serving(tmp_path, more) as server:
        settings = Settings(data_dir=server.data_dir)
        _, token = api_key_file(settings, SystemClock()).create(
            [Grant(frozenset(Verb))], expires_ms=None, note=""
        )
        yield server, authority.path, token


@pytest.mark.timeout(400)
async def test_workers_share_ports_a_store_a_health_a_page_and_their_metrics(secured, tmp_path):
    served, authority, token = secured
    url, trusted = f"https://{served.http}", ssl.create_default_context(cafile=authority)
    me = {"authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=url, timeout=30, verify=trusted) as stranger,
        httpx.AsyncClient(base_url=url, timeout=30, verify=trusted, headers=me) as door,
    ):
        assert (await until(door_is_ready(door)))["writable"]
        tls = TlsConfig(ca=authority)
        async with AsyncDesClient(served.address, channels=8, tls=tls, token=token) as client:

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

        # The doors of any worker, with its headers, ranges and refusals.
        name, data = next(iter(files.items()))
        for _ in range(2 * WORKERS):
            whole = await door.get(f"/files/{quote(name)}")
            assert (whole.status_code, whole.content) == (200, data)
            assert len(whole.headers.get_list("date")) == 1
        part = await door.get(f"/files/{quote(name)}", headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, data[10:20])
        known = await door.get(f"/files/{quote(name)}", headers={"if-none-match": whole.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        assert int((await door.head(f"/files/{quote(name)}")).headers["content-length"]) == len(data)
        assert (await door.get("/files/nothing")).status_code == 400
        assert (await door.post("/assign", json={"prefix": "TEAM"})).json()["name"].startswith("TEAM_")
        assert (await door.post("/assign", content=b"x" * 100_000)).status_code == 413
        assert (await door.get("/nowhere?x=1")).status_code == 404
        for path in ("/metrics", "/status.json", f"/files/{quote(name)}"):
            assert (await stranger.get(path)).status_code == 401

        # One page for all of them.
        page = await stranger.get("/status")
        assert (page.text, page.headers["content-security-policy"]) == document()

        async def all_counted():
            told = (await door.get("/status.json")).json()
            known = told["totals"]["open_files"] + told["totals"]["stored_files"]
            return told if known == len(files) else None

        told = await until(all_counted)
        assert told["workers"] == WORKERS
        assert len(told["grid"]) == 16
        assert {node["worker"] for node in told["nodes"]} == set(range(WORKERS))
        assert sum(node["shards"] for node in told["nodes"]) == 16
        assert {"database", "disk"} <= {one["check"] for one in told["health"]["checks"]}

        # A stranger is told whether, not why.
        assert (await stranger.get("/health/ready")).json() == {
            "status": "ready", "writable": True, "readable": True, "workers": WORKERS
        }  # fmt: skip
        assert {one["worker"] for one in (await door.get("/health")).json()["checks"]} == set(range(WORKERS))
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


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_workers_divide_their_store_anew_while_files_are_written(served):
    files = {}
    done = asyncio.Event()

    async def write(client):
        """Put until told to stop; what is refused for a moment is put again by the client, or dropped."""
        while not done.is_set():
            data = os.urandom(500)
            with contextlib.suppress(Unavailable, DeadlineExceeded):
                files[(await client.put(data)).file.name] = data

    async with (
        httpx.AsyncClient(base_url=f"http://{served.http}", timeout=30) as door,
        AsyncDesClient(served.address, channels=8) as client,
    ):
        ready = door_is_ready(door)

        def shared_out(count):
            async def look():
                with contextlib.suppress(Unavailable, DeadlineExceeded):
                    shards = await client.shard_status()
                    owners = {shard.owner_node for shard in shards if shard.state == "active"}
                    served_all = all(shard.state == "active" for shard in shards)
                    return len(shards) == count and served_all and len(owners) == WORKERS

            return look

        await until(ready)
        await until(shared_out(16))
        writing = [asyncio.create_task(write(client)) for _ in range(4)]
        try:
            for bits in (6, 3):
                before = len(files)
                await until_more(files, before + 50)
                asked = await asyncio.to_thread(
                    subprocess.run,
                    [sys.executable, "-m", "des.cli", "shard-bits", str(bits), "--now", "--json"],
                    capture_output=True,
                    text=True,
                    timeout=WAIT_S,
                    check=False,
                    env=os.environ | served.environment,
                )
                assert asked.returncode == 0, asked.stderr
                await until(shared_out(1 << bits))
                await until(ready)
                await until_more(files, len(files) + 50)
        finally:
            done.set()
            await asyncio.gather(*writing)
        assert served.alive()
        for name, data in files.items():
            assert await client.get(name) == data
        listed = [info.name async for info in client.list()]
        assert sorted(listed) == sorted(set(listed))
        assert set(listed) >= set(files)
        gone = next(iter(files))  # of the first division
        await client.delete(gone)
        with pytest.raises(FileMissing):
            await client.get(gone)


async def until_more(files, count):
    """Wait until so many files are acknowledged."""

    async def look():
        return len(files) >= count

    await until(look)


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
