"""`des.assignment.service:app` alone under uvicorn, from environment variables."""

import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

from des.assignment.service import AssignmentSettings, make_app
from des.clock import SystemClock
from des.db import DesDbConnector
from des.db.catalog import CatalogUnavailableError
from des.db.name_marks import NameMarks, NodeIdTakenError
from des.naming import consistent_hash, parse_name

SERVING = re.compile(r"running on (http://127\.0\.0\.1:\d+)")


class Alone:
    """A uvicorn process of the service."""

    def __init__(self, tmp_path, **changes):
        env = {
            **os.environ,
            "DES_NODE_ID": "9",
            "DES_SHARD_BITS": "4",
            "DES_WRAP_BITS": "30",
            "DES_NAME_PREFIX": "SVC",
            "DES_DB_URL": f"sqlite:///{tmp_path}/names.sqlite",
            "DES_ARCHIVE_BUCKET": "archive",
            **changes,
        }
        command = [sys.executable, "-m", "uvicorn", "des.assignment.service:app", "--port", "0"]
        self.process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        self.address = ""
        for line in self.process.stderr:
            if found := SERVING.search(line):
                self.address = found[1]
                break
        assert self.address, "the service did not start"
        self.http = httpx.Client(base_url=self.address, timeout=60)

    def assign(self, **body):
        answer = self.http.post("/assign", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stop(self, number=signal.SIGTERM):
        self.http.close()
        self.process.send_signal(number)
        self.process.wait(60)
        self.process.stderr.close()


@pytest.fixture
def start(tmp_path):
    running = []

    def begin(**changes):
        running.append(Alone(tmp_path, **changes))
        return running[-1]

    yield begin
    for service in running:
        if service.process.poll() is None:
            service.stop(signal.SIGKILL)


def test_it_runs_alone_and_its_answers_follow_the_environment(start):
    service = start()
    answer = service.assign(prefix="", meta_hint="hint")
    parsed = parse_name(answer["name"])
    assert (parsed.prefix, parsed.node_id) == ("SVC", 9)
    assert parsed.counter_ms < 1 << 30
    assert answer["shard_id"] == consistent_hash(answer["name"], 4)
    assert answer["day"].replace("-", "") == parsed.day
    health = service.http.get("/health")
    assert health.status_code == 200
    assert health.json()["archive_bucket"] == "archive"
    assert service.http.get("/health/ready").status_code == 200
    assert service.http.get("/health/live").json() == {"status": "live"}
    assert "des_http_assigned_names_total 1.0" in service.http.get("/metrics").text
    assert "/assign" in service.http.get("/docs").text
    assert service.http.post("/assign", json={"prefix": "!"}).json()["reason"] == "INVALID_NAME"


def test_names_are_never_repeated_over_restarts_and_kills(start):
    names = set()
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        service = start()
        for _ in range(40):
            name = service.assign()["name"]
            assert name not in names
            names.add(name)
        service.stop(number)


async def test_of_two_processes_with_one_node_id_the_earlier_one_stops_at_its_mark(tmp_path):
    connector = DesDbConnector(f"sqlite:///{tmp_path}/names.sqlite")
    settings = AssignmentSettings(db_url=f"sqlite:///{tmp_path}/names.sqlite", node_id=3)
    app = make_app(settings)
    async with app.router.lifespan_context(app):
        pass
    earlier, later = NameMarks(connector, 3), NameMarks(connector, 3)
    now = SystemClock().now_ms()
    await earlier.take()
    await earlier.move(now + 10_000)
    assert await later.take() == now + 10_000
    await later.move(now + 20_000)
    with pytest.raises(NodeIdTakenError):
        await earlier.move(now + 30_000)
    await later.move(now + 40_000)
    assert await NameMarks(connector, 4).take() == 0
    await connector.close()


async def test_without_its_database_it_gives_no_names_and_says_so(tmp_path, monkeypatch):
    async def refuse(*_args):
        raise CatalogUnavailableError("not now")

    monkeypatch.setattr(NameMarks, "move", refuse)
    monkeypatch.setattr(NameMarks, "check", refuse)
    app = make_app(AssignmentSettings(db_url=f"sqlite:///{tmp_path}/names.sqlite"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as http,
    ):
        answer = await http.post("/assign", json={})
        assert (answer.status_code, answer.json()["reason"]) == (503, "BACKEND_UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
        ready = await http.get("/health/ready")
        assert (ready.status_code, ready.json()["cause"]) == (503, "not now")
        assert (await http.get("/health/live")).status_code == 200
