"""Every series is in the table, counts what it says, and no alert or panel asks for one that is not there."""

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import google_crc32c
import httpx
import pytest
import yaml

from des.config import Settings
from des.files import FileSpec
from tests.integration.server.one_node import serving

ROOT = Path(__file__).parents[3]
PROMTOOL = ROOT / ".tools" / "promtool" / "bin" / "promtool"
ALERTS = ROOT / "docker" / "prometheus" / "alerts.yaml"
DASHBOARDS = sorted((ROOT / "docker" / "grafana").rglob("*.json"))
RUNBOOK = "docs/runbook.md#"
NAME = re.compile(r"\b(?:des|grpc_server)_[a-z0-9_]+\b")
GO_NAMES = {
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "grpc_server_handling_seconds",
}


@pytest.fixture(scope="module")
def table_script():
    path = ROOT / "scripts" / "make_metrics_table.py"
    spec = importlib.util.spec_from_file_location("make_metrics_table", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def series(table_script):
    return await table_script.all_series()


async def test_the_table_is_what_the_metrics_are(table_script, series):
    assert table_script.TABLE.read_text() == table_script.table(series)
    assert {one.name for one in series} >= GO_NAMES


async def test_no_label_has_a_name_or_a_caller(series):
    allowed = {
        "already_existed", "check", "code", "direction", "door", "grpc_code", "grpc_method", "grpc_service",
        "grpc_type", "method", "operation", "outcome", "reason", "result", "source", "step", "tier",
        "version",
    }  # fmt: skip
    assert {label for one in series for label in one.labels} <= allowed


def rules():
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


async def test_alerts_ask_for_series_that_exist(series):
    known = {name for one in series for name in one.names()}
    for rule in rules():
        # Label matchers out of the way: their values are no series.
        asked = set(NAME.findall(re.sub(r"\{[^}]*\}", "", rule["expr"])))
        assert asked <= known, rule["alert"]
        assert asked or rule["expr"].startswith("up{"), rule["alert"]


def test_alerts_tell_what_to_do():
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == RUNBOOK + rule["alert"].lower()


async def test_prometheus_finds_nothing_wrong_with_what_is_shown(tmp_path):
    if not PROMTOOL.exists():
        pytest.skip("needs promtool: scripts/install_promtool.sh .tools/promtool")
    settings = Settings(
        data_dir=tmp_path, listen="127.0.0.1:0", http_listen="127.0.0.1:0", shard_bits=0,
        log={"reserve_free_bytes": 0},
    )  # fmt: skip
    async with (
        serving(settings) as (_, server),
        httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=30) as http,
    ):
        shown = await http.get("/metrics")
    ran = await asyncio.to_thread(
        subprocess.run, [PROMTOOL, "check", "metrics"], input=shown.content, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, b"")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
async def test_dashboards_ask_for_series_that_exist(series, path):
    known = {name for one in series for name in one.names()}
    panels = [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]
    assert panels
    for panel in panels:
        for target in panel["targets"]:
            asked = set(NAME.findall(re.sub(r"\{[^}]*\}", "", target["expr"])))
            assert asked, panel["title"]
            assert asked <= known, (panel["title"], asked - known)


async def test_a_put_a_seal_and_a_get_are_counted_everywhere(tmp_path):
    settings = Settings(
        data_dir=tmp_path, listen="127.0.0.1:0", http_listen="127.0.0.1:0", shard_bits=0,
        log={"reserve_free_bytes": 0},
    )  # fmt: skip
    async with serving(settings) as (node, server):
        value = server.registry.get_sample_value
        data = b"x" * 1000
        crc = google_crc32c.value(data)
        names = [(await node.put_bytes(FileSpec(), data, crc)).file.name for _ in range(2)]
        assert value("des_log_backlog_files") == 2
        assert value("des_log_backlog_bytes") == 2000
        assert value("des_log_sync_seconds_count") >= 1
        assert value("des_log_group_records_sum") >= 1
        assert value("des_log_written_bytes_total") >= 1000
        assert value("des_log_bytes") <= value("des_log_budget_bytes")
        await node.seal_shard(0)
        assert value("des_seals_total", {"reason": "request", "outcome": "stored"}) == 1
        assert value("des_sealed_files_total") == 2
        assert value("des_seal_seconds_count") == 1
        assert value("des_seals_pending") == 0
        assert value("des_last_seal_timestamp_seconds") > 1e9
        assert value("des_log_backlog_files") == 0
        assert value("des_object_store_calls_total", {"operation": "create", "outcome": "ok"}) >= 1
        for name in names:
            opened = await node.open_file(name)
            assert await opened.read_whole() == data
        assert value("des_index_cache_requests_total", {"tier": "memory", "result": "miss"}) >= 1
        assert value("des_index_cache_requests_total", {"tier": "memory", "result": "hit"}) >= 1
        assert value("des_shard_locks_held") == 1
        assert value("des_shard_locks_lapsed") == 0
        assert value("des_recovery_seconds") > 0
        async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=30) as http:
            assert (await http.get(f"/files/{name}")).content == data
            assert (await http.get("/no/such/page")).status_code == 404
            text = (await http.get("/metrics")).text
        got = {"door": "/files/{name}", "method": "GET", "code": "200"}
        assert value("des_http_requests_total", got) == 1
        assert value("des_http_requests_total", {"door": "other", "method": "GET", "code": "404"}) == 1
        assert name not in text
