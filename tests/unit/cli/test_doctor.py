"""`des doctor` says what is wrong, what to do, and changes nothing."""

import asyncio
import http.server
import json
import sqlite3
import threading
from pathlib import Path

import google_crc32c
import pytest

from des.config import load_settings
from des.files import FileSpec
from des.node import Node


@pytest.fixture(autouse=True)
def no_running_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DES_HTTP_LISTEN", "")


def findings(ran) -> list[dict]:
    return [json.loads(line) for line in ran.text.splitlines()]


def test_a_store_that_is_not_there_yet_is_fine_and_stays_away(des, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    ran = des("doctor", "--data-dir", str(folder))
    assert ran.code == 0
    assert ran.text.count("made by the first start") == 3
    assert not folder.exists()


def test_a_variable_that_has_no_effect_is_a_warning(des, tmp_path: Path) -> None:
    ran = des("doctor", "--data-dir", str(tmp_path), env={"DES_SEAL_AGE_S": "canary"})
    assert ran.code == 0
    assert ran.text.startswith("WARN  environment: variable DES_SEAL_AGE_S is no setting and has no effect;")
    assert "DES_SEAL__AGE_S" in ran.text
    assert "canary" not in ran.text + ran.err


def test_the_store_of_another_catalog_is_told(des, tmp_path: Path) -> None:
    objects = tmp_path / "objects"
    objects.mkdir()
    (objects / "des-store-id").write_text("another-store\n")
    ran = des("doctor", "--data-dir", str(tmp_path), "--json")
    assert ran.code == 0
    assert any("another-store" in one["found"] for one in findings(ran) if one["part"] == "object store")
    catalog = tmp_path / "catalog.sqlite"
    with sqlite3.connect(catalog) as database:
        database.execute("CREATE TABLE x (y)")
    catalog.write_bytes(b"not a database" * 100)
    ran = des("doctor", "--data-dir", str(tmp_path), "--json")
    assert ran.code == 1
    assert [one["verdict"] for one in findings(ran)].count("failed") >= 1


def test_what_waits_in_logs_is_told(des, tmp_path: Path) -> None:
    async def leave_one_open() -> None:
        seal = {"checkpoint_s": 0.05, "check_interval_s": 0.02}
        node = await Node.open(load_settings(data_dir=tmp_path / "data", seal=seal))
        data = b"12345"
        await node.put_bytes(FileSpec(), data, google_crc32c.value(data))
        async with asyncio.timeout(60):
            while not await node._doors.catalog.open_containers():
                await asyncio.sleep(0.02)
        await node.close()

    asyncio.run(leave_one_open())
    ran = des("doctor", "--data-dir", str(tmp_path / "data"))
    assert ran.code == 0
    assert "1 files of 0 MiB wait for containers in the logs of 1 nodes" in ran.text
    assert "; 1 of them where no node runs now" in ran.text


def test_an_object_store_that_does_not_answer_is_unavailable(des, tmp_path: Path) -> None:
    ran = des(
        "doctor", "--data-dir", str(tmp_path), "--set", "object_store=s3://bucket/x",
        "--set", "s3.endpoint_url=http://127.0.0.1:9", "--set", "s3.attempts=1",
        "--set", "s3.access_key_id=a", "--set", "s3.secret_access_key=canary",
    )  # fmt: skip
    assert ran.code == 3
    assert "FAIL  object store: no answer of the store" in ran.text
    assert "canary" not in ran.text + ran.err


def test_a_full_disk_is_told(des, tmp_path: Path) -> None:
    ran = des("doctor", "--data-dir", str(tmp_path), "--set", "log.reserve_free_bytes=1000000GiB")
    assert ran.code == 1
    assert "below it writes are refused" in ran.text


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (
            {
                "status": "not ready",
                "cause": "disk: full",
                "checks": [
                    {"check": "disk", "state": "failed", "found": "full", "advice": "free disk", "age_s": 3.0,
                     "latency_ms": 1.0, "stops": "writes"},
                    {"check": "database", "state": "ok", "found": "answers", "advice": "", "age_s": None,
                     "latency_ms": 0.0, "stops": "nothing"},
                ],
            },
            1,
            ["FAIL  running node: ", "not ready: disk: full", "FAIL  running node, disk: full (looked 3",
             "      free disk", "ok    running node, database: answers"],
        ),
        ({"status": "ready"}, 0, ["is ready", "tells strangers no more", "set DES_TOKEN"]),
        ({"hello": 1}, 0, ["WARN  running node: what answers at", "is no DES server"]),
    ],
)  # fmt: skip
def test_a_running_node_is_asked(des, tmp_path: Path, body, code, said) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = json.dumps(body).encode()
            self.send_response(503 if body.get("status") == "not ready" else 200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ran = des("doctor", "--data-dir", str(tmp_path), "--http-listen", f"127.0.0.1:{server.server_port}")
        server.shutdown()
    assert ran.code == code, ran.text
    for words in said:
        assert words in ran.text


def test_a_node_that_does_not_run_is_no_fault(des, tmp_path: Path) -> None:
    ran = des("doctor", "--data-dir", str(tmp_path), "--http-listen", "127.0.0.1:9")
    assert ran.code == 0
    assert "running node: none answers at 127.0.0.1:9" in ran.text
