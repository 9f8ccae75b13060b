"""kill -9 at random moments: no acknowledged file is lost, doubled or half visible (I1 to I5)."""

import asyncio
import hashlib
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from des_client import AsyncDesClient, DesClientError, FileMissing, ShardState

from des.core import DesReader

WRITERS = 24
SIZES = [0, 1, 100, 4096, 4096, 4096, 20_000, 70_000, 300_000, 1_500_000, 5_000_000]


def content(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice(SIZES) if rng.random() < 0.2 else rng.randrange(8192))


async def write_until_killed(client: AsyncDesClient, rng: random.Random, acked: dict[str, str]) -> None:
    """Put file after file; what is acknowledged goes into `acked` as name to SHA-256."""
    while True:
        data = content(rng)
        try:
            result = await client.put(
                data, metadata={"sha256": hashlib.sha256(data).hexdigest()}, timeout_s=5
            )
        except DesClientError:
            return
        acked[result.file.name] = hashlib.sha256(data).hexdigest()


async def one_life(address: str, seed: int, acked: dict[str, str], kill, life_s: float) -> None:
    async with AsyncDesClient(address, retry=None) as client:
        writers = [
            asyncio.create_task(write_until_killed(client, random.Random(f"{seed}/{number}"), acked))
            for number in range(WRITERS)
        ]
        await asyncio.sleep(life_s)
        await asyncio.to_thread(kill)
        await asyncio.gather(*writers)


async def read_all_back(address: str, acked: dict[str, str]) -> None:
    async with AsyncDesClient(address) as client:
        limit = asyncio.Semaphore(32)

        async def check(name: str, sha256: str) -> None:
            async with limit:
                assert hashlib.sha256(await client.get(name)).hexdigest() == sha256

        await asyncio.gather(*(check(name, sha256) for name, sha256 in acked.items()))


def names_in_containers(data_dir: Path) -> Counter[str]:
    names: Counter[str] = Counter()
    for path in (data_dir / "objects").rglob("*.des"):
        with DesReader(path) as reader:
            names.update(reader.list_files())
    return names


async def torture(make_server, rounds: int, seed: int) -> None:
    # Seals every second of what is a second old, so that kills hit every step of a seal too.
    server = make_server(
        {
            "DES_SEAL__AGE_S": "0.5",
            "DES_SEAL__CHECK_INTERVAL_S": "0.1",
            "DES_SEAL__USEFUL_BYTES": "2000000",
            "DES_SEAL__RETRY_S": "0.2",
            "DES_LOG__SEGMENT_BYTES": "8000000",
            "DES_LOG__RECLAIM_DELAY_S": "1",
            "DES_BIG_FILE_BYTES": "2000000",
        }
    )
    rng = random.Random(seed)
    acked: dict[str, str] = {}
    slowest = 0.0
    for number in range(rounds):
        started = time.monotonic()
        server.start()
        slowest = max(slowest, time.monotonic() - started)
        before = dict(acked)
        await read_all_back(server.address, dict(rng.sample(sorted(before.items()), min(200, len(before)))))
        await one_life(server.address, seed * 1000 + number, acked, server.kill, rng.uniform(0.2, 2.0))
    server.start()
    await read_all_back(server.address, acked)
    async with AsyncDesClient(server.address) as client:
        while any(shard.open_files for shard in await client.shard_status()):
            await asyncio.sleep(0.2)
    await read_all_back(server.address, acked)
    assert server.terminate() == 0
    counts = names_in_containers(server.data_dir)
    assert set(acked) <= set(counts)
    assert {name: count for name, count in counts.items() if count != 1} == {}
    print(f"\nseed {seed}: {rounds} kills, {len(acked)} acknowledged, slowest start {slowest:.2f} s")
    assert len(acked) > rounds


async def test_two_kills_lose_nothing(make_server) -> None:
    await torture(make_server, 2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_twenty_five_kills_lose_nothing(make_server) -> None:
    await torture(make_server, 25, seed=int(os.environ.get("DES_TEST_SEED", "2")))


async def test_a_name_that_was_never_put_is_missing_after_a_kill(make_server) -> None:
    server = make_server().start()
    async with AsyncDesClient(server.address) as client:
        (assigned,) = await client.assign_names(1)
        server.kill()
        server.start()
        with pytest.raises(FileMissing):
            await client.get(assigned.name)


async def test_what_is_deleted_while_it_is_sealed_stays_deleted_after_a_kill(make_server) -> None:
    server = make_server({"DES_SHARD_BITS": "0", "DES_COMPRESSION": "off"}).start()
    rng = random.Random(7)
    kept: dict[str, str] = {}
    gone: list[str] = []
    under_way = 0
    for _ in range(2):
        contents = [rng.randbytes(16_000) for _ in range(700)]
        async with AsyncDesClient(server.address, retry=None, timeout_s=60) as client:
            results = [one.unwrap() async for one in client.put_many(contents)]
            kept |= {
                result.file.name: hashlib.sha256(data).hexdigest()
                for result, data in zip(results, contents, strict=True)
            }
            sealing = asyncio.create_task(client.seal_shard(0))
            while not sealing.done() and not await is_sealing(client):
                await asyncio.sleep(0)
            for victim in rng.sample([result.file.name for result in results], 3):
                await client.delete(victim)
                gone.append(victim)
                del kept[victim]
            under_way += not sealing.done()
            await asyncio.to_thread(server.kill)
            await asyncio.gather(sealing, return_exceptions=True)
        server.start()
        await hold_deleted(server.address, kept, gone)
    # The seal that was cut off is done again, with the deleted files in the container and out of sight.
    async with AsyncDesClient(server.address, timeout_s=60) as client:
        await client.seal_shard(0)
    await hold_deleted(server.address, kept, gone)
    server.kill()
    server.start()
    await hold_deleted(server.address, kept, gone)
    print(f"\n{under_way} of 2 kills while a seal was under way")


async def is_sealing(client: AsyncDesClient) -> bool:
    (shard,) = await client.shard_status([0])
    return shard.state is ShardState.SEALING


async def hold_deleted(address: str, kept: dict[str, str], gone: list[str]) -> None:
    async with AsyncDesClient(address, timeout_s=60) as client:
        read = {one.name: hashlib.sha256(one.unwrap()).hexdigest() async for one in client.get_many(kept)}
        assert read == kept
        assert {name async for name in client.iter_names()} == set(kept)
        outcomes = [one async for one in client.get_many(gone)]
        assert [one.error.reason for one in outcomes] == ["FILE_DELETED"] * len(gone)
        for name in gone:
            with pytest.raises(FileMissing) as caught:
                await client.get(name)
            assert caught.value.reason == "FILE_DELETED"
