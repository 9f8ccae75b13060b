"""The server as a process over a real store: start, refusals, drain, exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import google_crc32c
import grpc
import httpx
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import FileSpec, GetFileRequest, PutFileRequest
from des_proto.v1.file_service_pb2_grpc import FileServiceStub
from des_proto.v1.naming_service_pb2 import AssignNameRequest
from des_proto.v1.naming_service_pb2_grpc import NamingServiceStub
from des_proto.v1.shard_service_pb2 import SealShardRequest
from des_proto.v1.shard_service_pb2_grpc import ShardServiceStub
from des_server.__main__ import main
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

LINE = re.compile(
    r"des: serving gRPC on (127\.0\.0\.1:\d+), HTTP on (127\.0\.0\.1:\d+|no port), data in (.+)\n"
)


class Process:
    """A `des-server`; stdout and stderr are read as they come."""

    def __init__(self, data_dir, *arguments, **environment):
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "des_server", "--data-dir", str(data_dir)),
                *("--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "DES_LOG__SEGMENT_BYTES": "1MiB", "DES_SHARD_BITS": "2", **environment},
        )
        self.errors = []
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self):
        self.errors.extend(self.process.stderr)

    def wait_serving(self):
        line = self.process.stdout.readline()
        found = LINE.fullmatch(line)
        assert found, (line, self.errors)
        self.address, self.http, self.data = found.groups()
        return self

    def channel(self):
        return grpc.insecure_channel(self.address)

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self):
        code = self.process.wait(20)
        self._reader.join(5)
        return code

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def start(tmp_path):
    started = []

    def start(*arguments, data_dir=None, **environment):
        started.append(Process(data_dir or tmp_path / "data", *arguments, **environment))
        return started[-1]

    yield start
    for process in started:
        process.end()


def put(channel, data, **spec):
    message = PutFileRequest(spec=FileSpec(**spec), chunk=types_pb2.DataChunk(data=data), finish=True)
    return FileServiceStub(channel).PutFile(iter([message])).file


def get(channel, name):
    return b"".join(
        message.chunk.data for message in FileServiceStub(channel).GetFile(GetFileRequest(name=name))
    )


def test_files_survive_seal_and_restart(start):
    first = start().wait_serving()
    contents = {}
    with first.channel() as channel:
        (named,) = NamingServiceStub(channel).AssignName(AssignNameRequest(prefix="X")).names
        contents[put(channel, b"named", name=named.name).name] = b"named"
        for size in (0, 1, 100_000, 2_000_000):
            data = os.urandom(size)
            file = put(channel, data)
            assert file.checksums.crc32c == google_crc32c.value(data)
            contents[file.name] = data
        for shard in range(2):
            ShardServiceStub(channel).SealShard(SealShardRequest(shard_id=shard))
        assert {name: get(channel, name) for name in contents} == contents
    first.signal()
    assert first.wait() == 0
    second = start().wait_serving()
    with second.channel() as channel:
        assert {name: get(channel, name) for name in contents} == contents
    second.signal(signal.SIGINT)
    assert second.wait() == 0
    assert not any("Traceback" in line for line in first.errors + second.errors)


def test_a_second_server_on_the_data_or_a_port_is_refused_with_one_line(start, tmp_path):
    first = start().wait_serving()
    on_data = start()
    on_ports = {
        address: start(which, address, "--log-level", "warning", data_dir=tmp_path / which)
        for which, address in {"--listen": first.address, "--http-listen": first.http}.items()
    }
    assert on_data.wait() == 3
    assert [line.startswith("des: cannot start: ") for line in on_data.errors] == [True]
    assert on_data.process.stdout.read() == ""
    for address, second in on_ports.items():
        assert second.wait() == 3
        assert second.errors == [f"des: cannot start: cannot listen on {address}: Address already in use\n"]
    with first.channel() as channel:
        assert get(channel, put(channel, b"still here").name) == b"still here"


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--listen", "0.0.0.0:0"], {}, "--insecure-allow-plaintext-non-loopback"),
        (["--http-listen", "0.0.0.0:0"], {}, "--insecure-allow-plaintext-non-loopback"),
        (["--listen", "nowhere"], {}, "is not host:port"),
        (["--config", "/does/not/exist.yaml"], {}, "no configuration file"),
        ([], {"DES_SHARD_BITS": "99"}, "shard_bits"),
        ([], {"DES_LIMITS": "{"}, "limits"),
        (["--log-level", "loud"], {}, "invalid choice"),
    ],
)
def test_wrong_usage_is_refused_with_its_reason(tmp_path, monkeypatch, capsys, arguments, environment, said):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        sys.exit(main(["--data-dir", str(tmp_path), "--listen", "127.0.0.1:0", *arguments]))
    assert caught.value.code == 2
    told = capsys.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert not told.out


def test_an_exposed_server_starts_when_told_to_and_says_so(start):
    process = start("--listen", "0.0.0.0:0", "--insecure-allow-plaintext-non-loopback")
    line = process.process.stdout.readline()
    assert line.startswith("des: serving gRPC on 0.0.0.0:")
    deadline = time.monotonic() + 5
    while not any("reachable from other machines" in each for each in process.errors):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.signal()
    assert process.wait() == 0


def test_a_store_that_cannot_be_opened_is_refused_with_one_line(start, tmp_path):
    (tmp_path / "file").write_text("")
    process = start(data_dir=tmp_path / "file" / "data")
    assert process.wait() == 3
    assert [line.startswith("des: cannot start: ") for line in process.errors] == [True]


class SlowPut:
    """An upload that has begun and ends when told to."""

    def __init__(self, process, channel):
        self._go = threading.Event()
        self.answer = FileServiceStub(channel).PutFile.future(self._messages())
        deadline = time.monotonic() + 5
        while "des_upload_bytes_in_flight 2.0" not in httpx.get(f"http://{process.http}/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _messages(self):
        yield PutFileRequest(spec=FileSpec(), chunk=types_pb2.DataChunk(data=b"be"))
        self._go.wait(20)
        yield PutFileRequest(write_offset=2, chunk=types_pb2.DataChunk(data=b"gun"), finish=True)

    def go(self):
        self._go.set()


def wait_status(channel, name, status):
    deadline = time.monotonic() + 30
    while HealthStub(channel).Check(HealthCheckRequest(service=name)).status != status:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_drain_refuses_new_calls_and_finishes_those_in_flight(start):
    # Long enough for all that happens before "Drain", on a busy machine too.
    process = start(DES_DRAIN_NOTICE_S="4").wait_serving()
    with process.channel() as channel:
        watch = HealthStub(channel).Watch(HealthCheckRequest(service="readiness"))
        assert next(watch).status == HealthCheckResponse.SERVING
        slow = SlowPut(process, channel)
        process.signal()
        assert next(watch).status == HealthCheckResponse.NOT_SERVING
        # Notice: balancers see it, calls are still taken.
        assert httpx.get(f"http://{process.http}/health/ready").status_code == 503
        assert httpx.get(f"http://{process.http}/health/live").status_code == 200
        wait_status(channel, "liveness", HealthCheckResponse.SERVING)
        name = put(channel, b"during the notice").name
        assert get(channel, name) == b"during the notice"
        # Drain: new calls are refused, the one in flight goes on.
        deadline = time.monotonic() + 30
        while True:
            assert time.monotonic() < deadline
            try:
                get(channel, name)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
                break
            time.sleep(0.02)
        slow.go()
        assert slow.answer.result(30).file.size_bytes == 5
        stored = slow.answer.result().file.name
        watch.cancel()
    assert process.wait() == 0
    second = start().wait_serving()
    with second.channel() as channel:
        assert get(channel, stored) == b"begun"
        assert get(channel, name) == b"during the notice"


def test_a_call_that_outlasts_the_drain_is_cut_off(start):
    process = start(DES_DRAIN_S="0.3").wait_serving()
    with process.channel() as channel:
        slow = SlowPut(process, channel)
        process.signal()
        assert process.wait() == 0
        slow.go()
        with pytest.raises(grpc.RpcError):
            slow.answer.result(5)
    assert any("calls are cut off" in line for line in process.errors)


def test_a_second_signal_ends_it_at_once(start):
    process = start().wait_serving()
    with process.channel() as channel:
        slow = SlowPut(process, channel)
        name = put(channel, b"acknowledged").name
        process.signal()
        deadline = time.monotonic() + 5
        while not any("draining" in line for line in process.errors):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.signal(signal.SIGINT)
        assert process.wait() == 128 + signal.SIGINT
        slow.go()
    second = start().wait_serving()
    with second.channel() as channel:
        assert get(channel, name) == b"acknowledged"


def test_a_drain_under_load_loses_no_acknowledged_file(start):
    process = start().wait_serving()
    acknowledged, refused = {}, []
    with process.channel() as channel:

        def load(worker):
            n = 0
            while True:
                data = f"{worker}/{n}".encode()
                try:
                    acknowledged[put(channel, data).name] = data
                except grpc.RpcError as error:
                    refused.append(error.code())
                    return
                n += 1

        workers = [threading.Thread(target=load, args=(worker,)) for worker in range(8)]
        for worker in workers:
            worker.start()
        while len(acknowledged) < 100:
            time.sleep(0.01)
        process.signal()
        for worker in workers:
            worker.join(10)
    assert process.wait() == 0
    assert refused == [grpc.StatusCode.UNAVAILABLE] * 8
    second = start().wait_serving()
    with second.channel() as channel:
        assert {name: get(channel, name) for name in acknowledged} == acknowledged


def test_the_logs_are_json_and_http_is_off_when_asked(start):
    process = start("--log-format", "json", "--http-listen", "").wait_serving()
    assert process.http == "no port"
    process.signal()
    assert process.wait() == 0
    assert process.errors
    assert all(line.startswith("{") and line.endswith("}\n") for line in process.errors)


def test_a_variable_that_names_no_setting_is_told_at_the_start(start):
    process = start(
        "--log-format",
        "json",
        DES_LOG_SEGMENT_BYTES="canary",
        DES_SERVICE_HOST="10.0.0.1",  # these three as Kubernetes makes them for a Service called `des`
        DES_SERVICE_PORT="7420",
        DES_PORT="tcp://10.0.0.1:7420",
    ).wait_serving()
    process.signal()
    assert process.wait() == 0
    warnings = [line for line in map(json.loads, process.errors) if line["level"] == "warning"]
    assert [(one["variable"], one["near"]) for one in warnings if "variable" in one] == [
        ("DES_LOG_SEGMENT_BYTES", "DES_LOG__SEGMENT_BYTES")
    ]
    assert "canary" not in "".join(process.errors)
