"""Ingest as processes, killed at random: every row packed once, every file readable by its name."""

import asyncio
import hashlib
import random

import pytest
from des_client import AsyncDesClient

from des.testing.ingest_pipeline import IngestPipeline


def small_files(count, seed):
    rng = random.Random(seed)
    for number in range(count):
        size = rng.choice([0, 1, 300, 4000, 9000, 40_000])
        yield f"d{number % 7}/f {number}.bin", rng.randbytes(size)


async def read_all(pipeline, addresses):
    """Read every row's file through gRPC, from the nodes in turn; what differs."""
    wrong = []
    rows = pipeline.rows()
    clients = [AsyncDesClient(address) for address in addresses]
    limit = asyncio.Semaphore(32)

    async def check(place, key, row):
        async with limit:
            client = clients[place % len(clients)]
            data = await client.get(row.des_name)
            info = await client.stat(row.des_name)
        found = hashlib.sha256(data).hexdigest()
        expected = {"customer": row.customer, "source-id": str(row.id)}
        if not found == pipeline.sums[key] == row.des_checksum or dict(info.metadata) != expected:
            wrong.append(key)

    await asyncio.gather(*(check(place, key, row) for place, (key, row) in enumerate(rows.items())))
    for client in clients:
        await client.close()
    return wrong


async def torture(tmp_path, *, kinds, files, markers, packers, kills, within_s):
    with IngestPipeline(tmp_path, kinds=kinds) as pipeline:
        config = pipeline.write_config()
        total = pipeline.fill(small_files(files, seed=3))
        pipeline.add_markers(markers, config)
        pipeline.add_packers(packers, config)
        await asyncio.to_thread(pipeline.start)
        outcome = await asyncio.to_thread(
            pipeline.run_until_packed, kills=kills, seed=5, within_s=within_s, pause_s=(2.0, 5.0)
        )
        logs = {name: worker.log.read_text()[-1500:] for name, worker in pipeline.workers.items()}
        assert (outcome.packed, outcome.unfinished) == (total, 0), (outcome, pipeline.statuses(), logs)
        assert outcome.kills >= min(kills, 1)
        addresses = [worker.address for worker in pipeline.workers.values() if worker.serves]
        assert await read_all(pipeline, addresses) == []
        names = await asyncio.to_thread(pipeline.count_containers, outcome)
        assert outcome.doubled == []
        assert set(names) == {row.des_name for row in pipeline.rows().values()}
        for worker in pipeline.workers.values():
            assert worker.end(15) == 0, worker.log.read_text()[-3000:]


@pytest.mark.timeout(300)
async def test_a_killed_pipeline_packs_every_row_once(tmp_path):
    await torture(
        tmp_path, kinds=("postgresql", "sqlite"), files=300, markers=2, packers=2, kills=1, within_s=200
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_a_pipeline_killed_many_times_packs_every_row_once(tmp_path):
    await torture(
        tmp_path,
        kinds=("postgresql", "mariadb", "sqlite"),
        files=6000,
        markers=2,
        packers=3,
        kills=25,
        within_s=1500,
    )
