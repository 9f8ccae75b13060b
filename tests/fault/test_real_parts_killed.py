"""kill -9 between any two steps of shipping and of a seal, over a real PostgreSQL and a real S3 server.

A child process puts files, seals them, and kills itself at the N-th call to catalog or object store,
before it or behind it. Another start, on the same disk or on an empty one, has all that was acknowledged
for that case, each file in exactly one container when it has sealed them.
"""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import google_crc32c
import pytest
from sqlalchemy import text

from des.config import S3Settings, Settings, load_settings
from des.core import S3DesReader
from des.db import ContainerState, DesDbConnector, SqlCatalog
from des.node import Node
from des.storage import open_store
from des.testing.postgresql import temporary_postgresql
from des.testing.s3_server import BUCKET, temporary_moto

CHILD = '''
import asyncio, json, os, signal, sys
import google_crc32c
from des.config import load_settings
from des.db import DesDbConnector, SqlCatalog
from des.errors import DesError
from des.files import Durability, FileSpec
from des.node import Node
from des.storage import open_store

given = json.loads(sys.argv[1])
settings = load_settings(**given["settings"])

class Killing:
    """A door that kills the process at the N-th call through it or its fellow."""
    calls = 0
    armed = False
    def __init__(self, target, methods):
        self.target, self.methods = target, methods
    def __getattr__(self, name):
        method = getattr(self.target, name)
        if name not in self.methods:
            return method
        async def call(*args, **kwargs):
            Killing.calls += Killing.armed
            hit = Killing.armed and Killing.calls == given["number"]
            if hit and given["when"] == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = await method(*args, **kwargs)
            if hit:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call

async def main():
    catalog = SqlCatalog(DesDbConnector.configured(settings.catalog_url, settings.catalog))
    node = await Node.open(
        settings,
        catalog=Killing(catalog, given["catalog_calls"]),
        store=Killing(open_store(settings.object_store, settings), given["store_calls"]),
    )
    Killing.armed = True
    async def put(number):
        data = b"%d " % number * (number * 997 + 1)
        durability = Durability.STORED if number % 2 else Durability.LOCAL
        spec = FileSpec(metadata={"n": str(number)}, request_id=f"r{number}", durability=durability)
        result = await node.put_bytes(spec, data, google_crc32c.value(data))
        print(json.dumps([result.file.name, number, str(durability)]), flush=True)
    await asyncio.gather(*(put(number) for number in range(30)))
    for shard in range(2):
        await node.seal_shard(shard)
    print("unhurt", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
'''


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Settings]:
    with temporary_moto() as settings:
        yield settings


@pytest.fixture(scope="module")
def catalog_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with temporary_postgresql(tmp_path_factory.mktemp("pg")) as url:
        yield url


async def child(settings: dict[str, Any], number: int, when: str) -> tuple[dict[str, int], set[str], bool]:
    """Names acknowledged, those of them as stored, and whether the child got through."""
    given = json.dumps(
        {
            "settings": settings,
            "number": number,
            "when": when,
            "catalog_calls": ["container", "announce_container", "commit_container", "record_log_segment"],
            "store_calls": ["create", "head", "get_range", "get_tail"],
        }
    )
    done = subprocess.run(  # noqa: ASYNC221  nothing else runs on this loop meanwhile
        [sys.executable, "-c", CHILD, given], stdout=subprocess.PIPE, text=True, timeout=100, check=False
    )
    assert done.returncode == -signal.SIGKILL
    lines = done.stdout.splitlines()
    unhurt = lines[-1:] == ["unhurt"]
    answers = [json.loads(line) for line in lines if line.startswith("[")]
    names = {name: number for name, number, _ in answers}
    return names, {name for name, _, durability in answers if durability == "stored"}, unhurt


async def read_back(node: Node, names: dict[str, int]) -> None:
    for name, number in names.items():
        data = b"%d " % number * (number * 997 + 1)
        assert await (await node.open_file(name)).read_whole() == data
        assert (await node.stat(name)).crc32c == google_crc32c.value(data)


async def names_in_containers(settings: Settings, catalog: SqlCatalog) -> Counter[str]:
    store = open_store(settings.object_store, settings)
    names: Counter[str] = Counter()
    for row in await catalog.containers(state=ContainerState.STORED):
        reader = S3DesReader(store, row.key, etag=row.etag)
        await reader.open()
        names.update(entry.name for entry in await reader.get_index())
    await store.close()
    return names


@pytest.mark.parametrize("disk_lost", [False, True])
@pytest.mark.parametrize(
    ("number", "when"),
    [
        (3, "after"),
        (9, "after"),
        *[
            pytest.param(number, when, marks=pytest.mark.slow)
            for number in range(1, 20)
            for when in ("before", "after")
            if (number, when) not in {(3, "after"), (9, "after")}
        ],
    ],
)
async def test_what_was_acknowledged_is_there_after_kill_9(
    tmp_path: Path, moto: S3Settings, catalog_url: str, number: int, when: str, *, disk_lost: bool
) -> None:
    connector = DesDbConnector(catalog_url)
    for statement in ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public"):
        await connector.read(lambda connection, statement=statement: connection.execute(text(statement)))
    secrets = {
        name: getattr(moto, name).get_secret_value() for name in ("access_key_id", "secret_access_key")
    }
    given = {
        "data_dir": str(tmp_path / "node"),
        "catalog_url": catalog_url,
        "object_store": f"s3://{BUCKET}/{uuid4().hex}",
        "s3": moto.model_dump(mode="json", exclude_defaults=True) | secrets,
        "shard_bits": 1,
        "log": {"segment_bytes": 4 << 20, "reclaim_delay_s": 0},
        "seal": {"check_interval_s": 600},
    }
    acknowledged, stored, unhurt = await child(given, number, when)
    assert acknowledged
    if unhurt:
        assert len(acknowledged) == 30
    if disk_lost:
        (tmp_path / "node").rename(tmp_path / "lost")
        acknowledged = {name: number for name, number in acknowledged.items() if name in stored or unhurt}

    settings = load_settings(**given)
    node = await Node.open(settings)
    await read_back(node, acknowledged)
    for shard in range(2):
        await node.seal_shard(shard)
    await read_back(node, acknowledged)
    catalog = SqlCatalog(connector)
    names = await names_in_containers(settings, catalog)
    assert set(acknowledged) <= set(names)
    assert set(names.values()) <= {1}
    for _ in range(3):
        await node._packer.step()
        await node._parts.shipped_log.step()
        await node._parts.shipper.clean()
    assert await catalog.log_segments() == []
    await node.close()
    await catalog.close()
