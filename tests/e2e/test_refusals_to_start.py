"""When a server must not start, or must go on without writing: one clear line, and reads go on."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from des_client import DesClient, DesClientError, DiskFull, Unavailable

REFUSED = 3


def start_and_wait(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "des.cli", "serve"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_refused(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == REFUSED, ended.stderr
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in ended.stderr


def test_a_second_server_on_the_data_folder_is_refused(server) -> None:
    ended = start_and_wait(
        {"DES_DATA_DIR": str(server.data_dir), "DES_LISTEN": "127.0.0.1:0", "DES_HTTP_LISTEN": ""}
    )
    assert_refused(ended, str(server.process.pid))
    with DesClient(server.address) as des:
        assert des.get(des.put(b"x").file.name) == b"x"


def test_a_second_server_on_the_port_is_refused(server, tmp_path: Path) -> None:
    ended = start_and_wait(
        {"DES_DATA_DIR": str(tmp_path / "other"), "DES_LISTEN": server.address, "DES_HTTP_LISTEN": ""}
    )
    assert_refused(ended, server.address)


def test_a_data_folder_of_a_newer_version_is_refused(make_server) -> None:
    server = make_server().start()
    assert server.terminate() == 0
    path = server.data_dir / "store.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"format": facts["format"] + 1}))
    ended = start_and_wait(
        {"DES_DATA_DIR": str(server.data_dir), "DES_LISTEN": "127.0.0.1:0", "DES_HTTP_LISTEN": ""}
    )
    assert_refused(ended, str(facts["format"] + 1))


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    ended = start_and_wait({"DES_DATA_DIR": str(tmp_path), "DES_NODE_ID": "300"})
    assert ended.returncode == 2
    assert "node_id" in ended.stderr.lower()
    assert "Traceback" not in ended.stderr


def test_a_full_disk_refuses_writes_and_goes_on_reading(make_server) -> None:
    server = make_server({"DES_LOG__SEGMENT_BYTES": "4MiB"}).start()
    with DesClient(server.address, retry=None) as des:
        name = des.put(b"kept").file.name
        server.terminate()
        # As if the disk had less room left than the reserve.
        server.environment["DES_LOG__RESERVE_FREE_BYTES"] = str(1 << 60)
        server.start()
        with pytest.raises(DiskFull) as caught:
            for _ in range(100):  # until the segment that stands ready is full
                des.put(bytes(100_000))
        assert "free" in str(caught.value)
        assert des.get(name) == b"kept"
        server.terminate()
        del server.environment["DES_LOG__RESERVE_FREE_BYTES"]
        server.start()
        assert des.get(des.put(b"more").file.name) == b"more"


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (apt-get install strace)")
def test_a_failed_fsync_refuses_writes_and_goes_on_reading(make_server, tmp_path: Path) -> None:
    server = make_server().start()
    with DesClient(server.address, retry=None) as des:
        name = des.put(b"kept").file.name
        assert server.process is not None
        tracer = subprocess.Popen(
            [
                *("strace", "-f", "-qq", "-o", str(tmp_path / "strace.log"), "-e", "trace=fdatasync"),
                *("-e", "inject=fdatasync:error=EIO", "-p", str(server.process.pid)),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            with pytest.raises(Unavailable) as caught:
                for _ in range(500):  # until the tracer has attached
                    des.put(b"lost")
            assert caught.value.reason == "LOG_FAILED"
        finally:
            tracer.terminate()
            tracer.wait(30)
        with pytest.raises(Unavailable):
            des.put(b"still refused")
        assert des.get(name) == b"kept"
        server.kill()
        server.start()
        assert des.get(name) == b"kept"
        assert des.get(des.put(b"again").file.name) == b"again"


def test_sigterm_lets_calls_in_flight_finish(make_server) -> None:
    server = make_server().start()
    with DesClient(server.address, retry=None) as des:

        def parts():
            yield bytes(1 << 20)
            yield bytes(1 << 20)  # the client sends a part when it has the next
            metrics = f"http://{server.http}/metrics"
            while "des_calls_in_flight 1.0" not in httpx.get(metrics, timeout=60).text:
                threading.Event().wait(0.02)
            server.process.terminate()
            for _ in range(8):
                threading.Event().wait(0.1)
                yield bytes(1 << 19)

        stored = des.put(parts())
        assert stored.file.size_bytes == (2 << 20) + 8 * (1 << 19)
        assert server.ended() == 0
        with pytest.raises(DesClientError):
            des.put(b"too late", timeout_s=2)
    server.start()
    with DesClient(server.address) as des:
        assert len(des.get(stored.file.name)) == stored.file.size_bytes
