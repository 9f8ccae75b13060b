"""`des-packer` as a user runs it: packs, serves, says how it is, stops when told to, goes on after."""

import json
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from des_client import DesClient

from des.clock import SystemClock
from des.naming import SnowflakeNameGenerator
from des.sources import SourceDatabaseConnector
from des.testing.source_databases import temporary_source

SCRIPT = Path(__file__).parents[3] / "scripts" / "run_multi_shard_packer.py"
READY = re.compile(r"des: serving gRPC on (?P<grpc>\S+), HTTP on (?P<http>\S+), data in")
WAIT_S = 120


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with temporary_source("sqlite", tmp_path_factory.mktemp("sqlite")) as made:
        yield made


class Packer:
    """The script as a process, and where it serves."""

    def __init__(self, sources, data_dir, *settings):
        options = [f"--set={one}" for one in ("shard_bits=2", "seal.check_interval_s=0.1", *settings)]
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--sources", str(sources), "--data-dir", str(data_dir),
             "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-level", "warning", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def wait(self):
        ready, _, _ = select.select([self.process.stdout], [], [], WAIT_S)
        found = READY.match(self.process.stdout.readline() if ready else "")
        assert found, self.end(signal.SIGKILL)
        self.grpc, self.http = found["grpc"], found["http"]
        return self

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.http}{path}", timeout=60) as answer:
            return answer.read()

    def end(self, how):
        self.process.send_signal(how)
        _, errors = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, errors


def until(done):
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_a_packer_packs_serves_stops_and_goes_on(table, s3, tmp_path):
    client, endpoint = s3
    keys = {"endpoint": endpoint, "access_key": "AK", "secret_key": "SK", "addressing": "path"}
    data = {f"command/{number}": b"%d" % number * 100 for number in range(1, 21)}
    for number, (key, content) in enumerate(data.items(), 1):
        client.put_object(Bucket="docs", Key=key, Body=content)
        table.add(1, first=number, object_key=key)
    config = table.config(objects=keys)
    connector = SourceDatabaseConnector("docs", config)
    generator = SnowflakeNameGenerator(node_id=9, clock=SystemClock(), reserve=None)
    await connector.mark_batch(await generator.next_many(20, "DES"), shard_bits=2)
    await connector.close()
    plain = config.model_dump(mode="json", by_alias=True)
    plain["database"] = dict(table.database)
    plain["objects"] |= keys | {"session_token": ""}
    sources = tmp_path / "sources.yaml"
    sources.write_text(yaml.safe_dump({"packer": {"idle_s": 0.1}, "sources": {"docs": plain}}))

    # Its containers stay open: in the log is not packed, but readable.
    packer = Packer(sources, tmp_path / "data").wait()
    appended = b'des_ingest_rows_total{outcome="appended",source="docs"} 20.0'
    until(lambda: appended in packer.get("/metrics"))
    assert json.loads(packer.get("/health/ready"))["status"] == "ready"
    assert table.statuses() == {"claimed": 20}
    with DesClient(packer.grpc) as des:
        for row, content in zip(table.rows(), data.values(), strict=True):
            assert des.get(row.des_name) == content
    code, errors = packer.end(signal.SIGTERM)
    assert code == 0, errors
    assert table.statuses() == {"claimed": 20}

    packer = Packer(sources, tmp_path / "data", "seal.age_s=0").wait()
    until(lambda: table.statuses() == {"packed": 20})
    assert b'des_ingest_source_up{source="docs"} 1.0' in packer.get("/metrics")
    code, errors = packer.end(signal.SIGTERM)
    assert code == 0, errors
