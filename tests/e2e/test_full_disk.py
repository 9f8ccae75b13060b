"""A data folder on a small file system of its own, which is filled."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from des_client import DesClient, Unavailable

from tests.conftest import ServerProcess

MIB = 1 << 20
LEFT = 512 << 10
"""Enough to start: the catalog and the number of the start are written. Not for a copy of the segment."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    os.truncate(ballast, ballast.stat().st_size - LEFT)
    return ballast


def test_a_log_found_on_a_full_disk_takes_writes_again_once_there_is_room(small_disk, tmp_path) -> None:
    environment = {"DES_LOG__SEGMENT_BYTES": "4MiB", "DES_LOG__RESERVE_FREE_BYTES": "0"}
    server = ServerProcess(small_disk / "data", tmp_path / "server.log", environment)
    server.start()
    try:
        with DesClient(server.address, timeout_s=120) as des:
            kept = [one.unwrap().file.name for one in des.put_many([os.urandom(100_000)] * 20)]
            server.kill()
            ballast = fill(small_disk)
            server.start()
            with DesClient(server.address, retry=None) as once, pytest.raises(Unavailable) as refused:
                once.put(b"x")
            assert refused.value.reason == "LOG_FAILED"
            assert "no room" in str(refused.value)
            ready = httpx.get(f"http://{server.http}/health/ready")
            assert ready.status_code == 503
            assert "no room" in ready.text
            assert len(des.get(kept[0])) == 100_000
            ballast.unlink()
            # The client waits for as long as its time allows; nobody starts the server anew.
            pid = server.process and server.process.pid
            names = [one.unwrap().file.name for one in des.put_many([b"one", b"two"])]
            assert [one.unwrap() for one in des.get_many(names)] == [b"one", b"two"]
            assert all(len(one.unwrap()) == 100_000 for one in des.get_many(kept))
            assert server.process is not None
            assert server.process.pid == pid
            assert server.alive()
        assert server.terminate() == 0
    finally:
        if server.alive():
            server.kill()
