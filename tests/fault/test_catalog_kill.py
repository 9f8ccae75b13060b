"""A process that is killed between two statements loses nothing that was acknowledged."""

import signal
import subprocess
import sys

import pytest

from des.db import ContainerState, DesDbConnector, SqlCatalog
from des.testing.catalog_rows import BERT, claim, container_row

CHILD = """
import asyncio, sys
from pathlib import Path
from des.db import DesDbConnector, SqlCatalog
from des.testing.catalog_rows import claim, container_row

async def main(path, first):
    catalog = SqlCatalog(DesDbConnector.sqlite(path))
    await catalog.migrate()
    own = await claim(catalog, range(8, 12))
    async def seal(number):
        while True:
            row = container_row(number)
            await catalog.announce_container(row, own)
            await catalog.commit_container(row.container_id, etag=f"e{number}", claim=own)
            print(number, flush=True)
            number += 4
    await asyncio.gather(*(seal(first + lane) for lane in range(4)))

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.slow)])
async def test_every_acknowledged_commit_survives_kill_9(tmp_path, rounds):
    path = tmp_path / "catalog.sqlite"
    acknowledged = set()
    for turn in range(rounds):
        child = subprocess.Popen(  # noqa: ASYNC220  nothing else runs on this loop meanwhile
            [sys.executable, "-c", CHILD, str(path), str(turn * 1_000_000)], stdout=subprocess.PIPE, text=True
        )
        for line in child.stdout:
            acknowledged.add(int(line))
            if len(acknowledged) >= (turn + 1) * 15 + turn % 7:
                break
        child.send_signal(signal.SIGKILL)
        acknowledged.update(int(line) for line in child.communicate()[0].splitlines())

        catalog = SqlCatalog(DesDbConnector.sqlite(path))
        await catalog.migrate()
        stored = {int(row.sha256, 16): row for row in await catalog.containers(state=ContainerState.STORED)}
        assert acknowledged <= set(stored)
        assert all(row.etag == f"e{number}" for number, row in stored.items())
        # What was under way is finished by the next holder.
        heir = await claim(catalog, range(8, 12), holder=BERT)
        for row in await catalog.containers(state=ContainerState.UPLOADING):
            number = int(row.sha256, 16)
            await catalog.announce_container(container_row(number), heir)
            await catalog.commit_container(row.container_id, etag=f"e{number}", claim=heir)
        assert await catalog.containers(state=ContainerState.UPLOADING) == []
        assert {2 * turn + 2} == {lock.epoch for lock in await catalog.shard_locks()}
        await catalog.close()
