"""A real process, a real disk, kill -9: what it said was kept is there."""

import asyncio
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from des.clock import SystemClock
from des.config.settings import LogSettings
from des.ingest.log import IngestLog
from des.storage.posix_disk import PosixDisk

WRITER = """
import asyncio, os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID
import google_crc32c
from des.clock import SystemClock
from des.config.settings import LogSettings
from des.ingest.directory import StoreDirectory
from des.ingest.log import IngestLog
from des.ingest.values import FileDraft
from des.storage.posix_disk import PosixDisk

async def main():
    disk = PosixDisk(Path(sys.argv[1]))
    store = StoreDirectory.open(disk, new_node=UUID(int=1))
    log, recovered = await IngestLog.open(
        disk, clock=SystemClock(), node=store.node_uuid, boot_epoch=store.boot_epoch,
        settings=LogSettings(segment_bytes=1 << 20, reserve_free_bytes=0),
        executor=ThreadPoolExecutor(2), publish=lambda _: None, salt=lambda: int.from_bytes(os.urandom(4)),
    )
    assert recovered.read_only_cause is None, recovered.read_only_cause

    async def put(worker):
        number = 0
        while True:
            name = f"{store.boot_epoch}-{worker}-{number}"
            data = name.encode() * 50
            crc32c = google_crc32c.value(data)
            await log.append_file(FileDraft(name, 20261123, 0, len(data), crc32c, b"", data))
            os.write(1, name.encode() + b"\\n")
            number += 1

    await asyncio.gather(*(put(worker) for worker in range(8)))

asyncio.run(main())
"""


def write_and_kill(root, lines):
    """Return what a writer said it had kept before and while it was killed."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(root)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().decode().rstrip("\n") for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        return said + process.stdout.read().decode().split("\n")[:-1]


async def kill_and_look(root, times):
    acknowledged: list[str] = []
    for number in range(times):
        acknowledged += await asyncio.to_thread(write_and_kill, root, 50 + 37 * number)
    assert "" not in acknowledged
    with ThreadPoolExecutor(2) as executor:
        log, recovered = await IngestLog.open(
            PosixDisk(root),
            clock=SystemClock(),
            node=UUID(int=1),
            boot_epoch=1000,
            settings=LogSettings(reserve_free_bytes=0),
            executor=executor,
            publish=lambda _: None,
            salt=lambda: 1,
        )
        assert recovered.read_only_cause is None
        names = [file.name for file in recovered.files]
        assert len(set(names)) == len(names)
        assert set(acknowledged) <= set(names)
        for file in recovered.files[:: max(1, len(names) // 200)]:
            assert await log.reader.read(file.extents[0]) == file.name.encode() * 50
        await log.close()


async def test_nothing_acknowledged_is_lost_to_kill_9(tmp_path):
    await kill_and_look(tmp_path / "store", times=3)


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_to_many_kill_9(tmp_path):
    await kill_and_look(tmp_path / "store", times=100)
