"""A real MariaDB for tests, from the system's packages: a private server on a free port of loopback."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from des.testing.ports import free_port

START_S: Final = 60
USER: Final = "des"
PASSWORD: Final = "p@ss:w/rd%"  # noqa: S105  of a server that lives for one test
DATABASE: Final = "source"


class MariaDbServer:
    """One server with its own data; it can be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._socket = directory / "socket"

    def install(self) -> None:
        """Make the data folder, a database and a user."""
        subprocess.run(  # noqa: S603
            [
                _program("mariadb-install-db"),
                "--no-defaults",
                f"--datadir={self._directory / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                f"--user={_user()}",
            ],
            check=True,
            capture_output=True,
        )
        self.start()
        self.run(
            f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4; "
            f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; "
            f"GRANT ALL ON {DATABASE}.* TO {USER}@'127.0.0.1'"
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._process = subprocess.Popen(  # noqa: S603
            [
                _program("mariadbd"),
                "--no-defaults",
                f"--user={_user()}",
                f"--datadir={self._directory / 'data'}",
                f"--socket={self._socket}",
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--innodb-buffer-pool-size=64M",
                # Survives a kill, not a power cut; syncing would take longer than the tests.
                "--innodb-flush-log-at-trx-commit=2",
                f"--pid-file={self._directory / 'pid'}",
                f"--log-error={self._directory / 'error.log'}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.run("SELECT 1")
                return
            except subprocess.CalledProcessError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def run(self, sql: str) -> None:
        """Run statements as the server's owner."""
        subprocess.run(  # noqa: S603
            [_program("mariadb"), "--no-defaults", f"--socket={self._socket}", "-uroot", "-e", sql],
            check=True,
            capture_output=True,
        )

    def stop(self, *, kill: bool = False) -> None:
        """Stop the server, or kill it, and wait until it is gone."""
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(START_S)
        self._process = None


@contextmanager
def temporary_mariadb(directory: Path) -> Iterator[MariaDbServer]:
    """Run a MariaDB with its data in `directory`; skip the test where there is none."""
    for program in ("mariadbd", "mariadb", "mariadb-install-db"):
        if _find(program) is None:
            pytest.skip(f"no MariaDB: {program} is not installed (Debian package mariadb-server)")
    server = MariaDbServer(directory)
    try:
        server.install()
        yield server
    finally:
        server.stop(kill=True)


def _program(name: str) -> str:
    found = _find(name)
    assert found is not None
    return found


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _user() -> str:
    # MariaDB runs as root only when told to.
    return "root" if os.getuid() == 0 else os.environ.get("USER", str(os.getuid()))
