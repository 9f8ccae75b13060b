"""What all tests share: a store started as a user starts it."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from des.testing.ports import free_port

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in the background deaf to Ctrl-C, and children would be so too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

START_S = 60
READY = re.compile(r"des: serving gRPC on (?P<grpc>\S+), HTTP on (?P<http>\S+), data in")


class ServerProcess:
    """`des serve` as a child process; it can be killed and started again on the same data and port."""

    def __init__(self, data_dir: Path, log: Path, environment: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.log = log
        self.environment = environment or {}
        self.listen = f"127.0.0.1:{free_port()}"
        self.prefix: tuple[str, ...] = ()
        """Words before the command, as to run it elsewhere."""
        self.arguments: tuple[str, ...] = ()
        self.address = ""
        self.http = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> "ServerProcess":
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "des.cli", "serve", *self.arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ
                | {
                    "DES_DATA_DIR": str(self.data_dir),
                    "DES_LISTEN": self.listen,
                    "DES_HTTP_LISTEN": "127.0.0.1:0",
                    "PYTHONFAULTHANDLER": "1",  # what hangs says where, see `ended`
                }
                | self.environment,
            )
        match = READY.match(self._first_line())
        assert match, f"server did not start: {self.log.read_text()[-4000:]}"
        self.address = self.listen = match["grpc"]
        self.http = match["http"]
        return self

    def _first_line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_S)
        return self.process.stdout.readline() if ready else ""

    def kill(self) -> None:
        """kill -9: nothing of the process gets a chance to tidy up."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM, and the exit code of the drain."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.ended()

    def ended(self) -> int:
        """Wait for the process to end; its exit code.

        Raises:
            TimeoutExpired: it does not; it was aborted, and where its threads were is in its log.
        """
        assert self.process is not None
        try:
            code = self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(START_S)
            raise
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A running store of its own data folder, on free ports."""
    process = ServerProcess(tmp_path / "data", tmp_path / "server.log")
    try:
        yield process.start()
    finally:
        if process.alive():
            process.kill()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[type[ServerProcess]]:
    """Make servers that are killed at the end of the test."""
    made: list[ServerProcess] = []

    class Made(ServerProcess):
        def __init__(self, environment: dict[str, str] | None = None) -> None:
            super().__init__(tmp_path / "data", tmp_path / "server.log", environment)
            made.append(self)

    yield Made
    for process in made:
        if process.alive():
            process.kill()


def wait_until(condition, timeout_s: float = 30.0) -> None:  # type: ignore[no-untyped-def]
    """Poll until `condition()` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {condition}"
        time.sleep(0.02)
