"""`des-marker` as a user runs it: once, status, list-dead, retry-dead, and run with its HTTP port."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
import yaml

from des.testing.source_databases import temporary_source


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with temporary_source("sqlite", tmp_path_factory.mktemp("sqlite")) as made:
        yield made


@pytest.fixture
def command(table, tmp_path):
    table.empty()
    plain = table.config().model_dump(mode="json", by_alias=True)
    plain["database"] = dict(table.database)
    for part in ("access_key", "secret_key", "session_token"):
        plain["objects"].pop(part)
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump({"marker": {"idle_s": 0.1}, "sources": {"docs": plain}}))

    def make(verb, *arguments):
        return [sys.executable, "-m", "des.cli.marker", verb, "--sources", str(path), *arguments]

    return make


def run(command):
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)


def test_dead_letters_are_shown_and_returned(table, command, tmp_path):
    table.add(3)
    table.add(1, first=4, object_key=None)
    names = ("--data-dir", str(tmp_path / "marker"), "--node-id", "7")
    done = run(command("once", *names))
    assert (done.returncode, done.stdout) == (0, "3 rows marked, 1 failed\n"), done.stderr
    assert run(command("list-dead")).stdout == "docs 4: BAD_KEY: the key is NULL (attempts: 0)\n"
    counts = {"pending": 0, "marked": 3, "claimed": 0, "packed": 0, "failed": 1, "other": 0}
    assert json.loads(run(command("status", "--json")).stdout) == {"source": "docs", **counts}
    assert run(command("status")).stdout.startswith(
        "docs: 0 pending, 3 marked, 0 claimed, 0 packed, 1 failed"
    )
    table.execute("UPDATE documents SET object_key = 'now there is one' WHERE id = 4")
    assert run(command("retry-dead", "--reason", "BAD_KEY")).stdout == "docs: 1 rows returned\n"
    assert run(command("once", *names)).stdout == "1 rows marked, 0 failed\n"
    found = {row.des_name for row in table.rows("id, des_name")}
    assert len(found) == 4
    assert all(re.fullmatch(r"DES_\d{8}_\([0-9A-F]{8}07[0-9A-F]{2}_[0-9A-F]{2}\)", name) for name in found)


def test_a_marker_without_a_node_id_says_what_it_needs(command, tmp_path):
    done = run(command("once", "--data-dir", str(tmp_path / "marker")))
    assert done.returncode == 2
    assert "no --node-id" in done.stderr


def test_two_markers_do_not_share_a_folder(table, command, tmp_path):
    folder = ("--data-dir", str(tmp_path / "marker"), "--node-id", "7")
    first = subprocess.Popen(
        command("run", *folder, "--http-listen", "127.0.0.1:0"), stderr=subprocess.PIPE, text=True
    )
    try:
        port = re.search(r"HTTP on port (\d+)", first.stderr.readline())[1]
        second = run(command("once", *folder))
        assert second.returncode == 1
        assert "is open in process" in second.stderr
        table.add(5)
        deadline = time.monotonic() + 60
        while table.statuses() != {"marked": 5}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=30) as answer:
            assert json.load(answer)["status"] == "ready"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            assert b'des_marker_rows_total{outcome="marked",source="docs"} 5.0' in answer.read()
    finally:
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
        first.stderr.close()
