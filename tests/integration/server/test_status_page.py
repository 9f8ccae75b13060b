"""The status page: what it tells, that it needs no other host, and how a real browser shows it."""

import asyncio
import contextlib
import json
import logging
import re
import shutil
import subprocess

import google_crc32c
import httpx
import pytest
from des_server.dashboard.grid import grid_of
from des_server.dashboard.history import Counters, History
from des_server.dashboard.page import document
from des_server.dashboard.troubles import RecentTroubles

from des.config import Settings
from des.files import FileSpec
from des.node import ShardStatus
from tests.integration.server.one_node import serving

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def shard(number, state="active", files=0, age=None, error="", owner="a" * 32):
    return ShardStatus(number, state, owner, 1, files, files * 10, 5, 50, 1, age, None, 0, error)


def test_every_shard_is_a_cell():
    cells = grid_of([shard(0, files=2, age=3.0), shard(1, "sealing"), shard(2, error="no room")])
    assert [(cell["shard"], cell["span"], cell["state"]) for cell in cells] == [
        (0, 1, "active"),
        (1, 1, "sealing"),
        (2, 1, "active"),
    ]
    assert (cells[0]["open_files"], cells[0]["age_s"], cells[2]["error"]) == (2, 3.0, "no room")


def test_very_many_shards_share_cells_and_the_worst_shows():
    shards = [shard(n, files=1, age=float(n)) for n in range(1 << 12)]
    shards[5] = shard(5, "read_only", error="the log failed", owner="b" * 32)
    cells = grid_of(shards, cells_max=1024)
    assert len(cells) == 1024
    assert (cells[1]["shard"], cells[1]["span"], cells[1]["state"]) == (4, 4, "read_only")
    assert (cells[1]["error"], cells[1]["owner"], cells[1]["open_files"]) == ("the log failed", "2 nodes", 3)
    assert cells[-1]["age_s"] == 4095.0


def test_history_shows_rates_and_forgets():
    counted = [0]
    history = History(lambda: Counters(counted[0], 0, 0, 0, counted[0], 0), samples_max=3)
    for second in range(6):
        counted[0] = second * second
        history.sample(1000 * second)
    history.sample(5000)  # a clock that stood still
    told = history.as_json()
    assert told["at_ms"] == [3000, 4000, 5000]
    assert told["put_files"] == [5.0, 7.0, 9.0]
    assert told["backlog_files"] == [9, 16, 25]


def test_troubles_are_bounded_counted_and_name_no_file():
    troubles = RecentTroubles(troubles_max=2)

    def warn(event):
        troubles.handle(logging.LogRecord("x", logging.WARNING, "", 0, event, None, None))

    warn("plain words")
    for _ in range(3):
        warn(
            {
                "event": "seal failed",
                "error": "no answer",
                "message": "no file 'SECRET_1'",
                "name": "SECRET_1",
            }
        )
    warn({"event": "x" * 1000})
    told = troubles.as_json()
    assert [len(one["event"]) for one in told] == [300, 11]
    assert (told[1]["facts"], told[1]["times"]) == ("error=no answer", 3)
    assert "SECRET" not in json.dumps(told)


def test_the_page_asks_no_other_host_and_runs_nothing_from_outside():
    text, policy = document()
    outside = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+", text)) - {"http://www.w3.org"}
    assert outside == set()
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert not re.search(r"innerHTML|document\.write|eval\(|\son[a-z]+=|style=", text)


@contextlib.asynccontextmanager
async def shown(tmp_path):
    settings = Settings(
        data_dir=tmp_path, listen="127.0.0.1:0", http_listen="127.0.0.1:0", shard_bits=6,
        log={"reserve_free_bytes": 0},
    )  # fmt: skip
    async with serving(settings) as served:
        yield served


async def fill(node, files):
    names = []
    for _ in range(files):
        data = b"x" * 100
        names.append((await node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file)
    return names


async def test_the_facts_behind_it(tmp_path):
    async with shown(tmp_path) as (node, server):
        files = await fill(node, 20)
        await node.seal_shard(files[0].shard)
        url = f"http://{server.http_address}"
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            answer = await http.get("/status.json")
            pages = [await http.get(path) for path in ("/", "/status")]
        told = answer.json()
        assert answer.headers["cache-control"] == "no-store"
        assert len(told["grid"]) == told["totals"]["shards"] == 64
        assert told["totals"]["open_files"] + told["totals"]["stored_files"] == 20
        assert told["totals"]["containers"] == len(told["days"]) == 1
        assert told["days"][0]["containers"] == 1
        assert [(one["node"], one["shards"], one["this"]) for one in told["nodes"]] == [
            (node.node_uuid, 64, True)
        ]
        assert {one["check"] for one in told["health"]["checks"]} >= {"database", "disk"}
        for file in files:
            assert file.name not in answer.text
        for page in pages:
            assert page.text == document()[0]
            assert page.headers["content-security-policy"] == document()[1]


async def test_a_browser_shows_it(tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium (Debian: apt-get install chromium)")
    async with shown(tmp_path / "data") as (node, server):
        files = await fill(node, 40)
        await node.seal_shard(files[0].shard)
        now_ms = node.started_ms
        for second in range(30):
            server.reporter.history.sample(now_ms + 1000 * second)
        for name, size in (("wide", "1200,1500"), ("phone", "390,2600")):
            shot, log = tmp_path / f"{name}.png", tmp_path / f"{name}.log"
            command = [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--hide-scrollbars", "--enable-logging=stderr", "--no-first-run", "--disable-extensions",
                f"--user-data-dir={tmp_path / name}", f"--window-size={size}", f"--screenshot={shot}",
                "--virtual-time-budget=4000", "--dump-dom", f"http://{server.http_address}/status",
            ]  # fmt: skip
            ran = await asyncio.to_thread(
                lambda command=command: subprocess.run(
                    command, capture_output=True, timeout=110, check=False, text=True
                )
            )
            log.write_text(ran.stderr)
            assert ran.returncode == 0, ran.stderr[-3000:]
            dom = ran.stdout
            assert 'data-shown="' in dom, ran.stderr[-3000:]
            assert len(re.findall(r'<button type="button" class="cell', dom)) == 64
            assert re.search(r'id="light"[^>]*>serving', dom)
            assert dom.count("<svg") == 4
            assert "files in containers" in dom
            # Chromium writes what the page's script and policy refused as console messages.
            assert "Refused to" not in ran.stderr
            assert "Uncaught" not in ran.stderr
