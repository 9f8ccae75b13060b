"""Several processes behind one port: each a node of the cluster, one that looks after them.

A Python process uses one core. The workers share the gRPC port (SO_REUSEPORT: the kernel gives each new
connection to one of them), and each has a port of its own, at which the other nodes reach it. They are
spawned, never forked: gRPC does not survive a fork.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final

import structlog

from des.config import Settings
from des.errors import DesError
from des.monitoring import configure_logging
from des.node import Node
from des_server.app import DesServer
from des_server.cluster.worker_http import WorkersHttp
from des_server.lifecycle import EXIT_OK, EXIT_REFUSED, EXIT_UNEXPECTED, EXIT_USAGE, say, serve
from des_server.listen import (
    Address,
    AddressInUseError,
    AddressInvalidError,
    AddressRefusedError,
    advertised,
    refuse_exposed,
)
from des_server.security.authenticate import api_keys_path

RESTART_FIRST_S: Final = 0.5
RESTART_MAX_S: Final = 30.0
KILL_AFTER_S: Final = 15.0
"""How long a worker may take to end beyond its own drain."""
_STARTED: Final = "started"

_log = structlog.get_logger(__name__)
_spawn = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class _Worker:
    number: int
    process: BaseProcess
    pipe: Connection
    http: str = ""
    """host:port of its health and metrics."""
    serving: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Starts the workers, starts those again that end, serves health and metrics of all, and stops them."""

    def __init__(self, settings: Settings, *, allow_exposed: bool) -> None:
        self._settings = settings
        self._allow_exposed = allow_exposed
        self._workers: dict[int, _Worker] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Serve until a signal; return the exit code."""
        try:
            shared, port = self._take_port()
        except (AddressInvalidError, AddressRefusedError) as error:
            say(str(error))
            return EXIT_USAGE
        except DesError as error:
            say(f"cannot start: {error}")
            return EXIT_REFUSED
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        http: WorkersHttp | None = None
        keeping: list[asyncio.Task[None]] = []
        try:
            http_address = "no port"
            if self._settings.http_listen:
                http = WorkersHttp(self._https, self._settings.workers, self._settings.tls)
                http_address = str(http.start(Address.parse(self._settings.http_listen)))
            if not await self._start_all(shared):
                return EXIT_REFUSED
            keeping = [asyncio.create_task(self._keep(number, shared)) for number in self._workers]
            say(
                f"serving gRPC on {shared}, HTTP on {http_address}, data in {self._settings.data_dir}",
                stream=sys.stdout,
            )
            await self._stopping.wait()
            return EXIT_OK
        except DesError as error:
            say(f"cannot start: {error}")
            return EXIT_REFUSED
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            await self._stop_all()
            if http is not None:
                await http.stop()
            port.close()

    def _take_port(self) -> tuple[Address, socket.socket]:
        """Return the shared address and a socket that keeps its port ours while workers come and go."""
        settings = self._settings
        if not settings.in_cluster:
            raise AddressInvalidError(
                f"{settings.workers} workers share one store, for which they need a catalog on PostgreSQL "
                "(catalog_url) and cluster.enabled"
            )
        wanted = Address.parse(settings.listen)
        if not self._allow_exposed:
            http = [Address.parse(settings.http_listen)] if settings.http_listen else []
            refuse_exposed([wanted, *http], tls=settings.tls.cert is not None, auth=settings.authenticates)
        advertised(wanted, settings.cluster.advertise, own_port=True)
        wanted.bind().close()  # says why, if somebody else has it
        family, kind, protocol, _, where = socket.getaddrinfo(
            wanted.host, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            sock.bind(where)
        except OSError as error:
            sock.close()
            raise AddressInUseError(f"cannot listen on {wanted}: {error.strerror or error}") from error
        return wanted.with_port(sock.getsockname()[1]), sock

    async def _start_all(self, shared: Address) -> bool:
        for number in range(self._settings.workers):
            self._workers[number] = self._start(number, shared)
        outcomes = await asyncio.gather(*(self._started(worker) for worker in self._workers.values()))
        return all(outcomes)

    def _start(self, number: int, shared: Address) -> _Worker:
        here, there = _spawn.Pipe()
        process = _spawn.Process(
            target=run_worker,
            args=(worker_settings(self._settings, number, shared), shared, self._allow_exposed, there),
            name=f"des-worker-{number}",
        )
        process.start()
        there.close()
        return _Worker(number, process, here)

    async def _started(self, worker: _Worker) -> bool:
        """Wait until a worker serves; return whether it does."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(worker.pipe.fileno(), readable.set)
        try:
            await readable.wait()
            word, worker.http = await asyncio.to_thread(worker.pipe.recv)
        except (EOFError, OSError):
            return False
        finally:
            loop.remove_reader(worker.pipe.fileno())
        worker.serving.set()
        return bool(word == _STARTED)

    async def _keep(self, number: int, shared: Address) -> None:
        """Start a worker again whenever it ends."""
        wait_s = RESTART_FIRST_S
        while True:
            worker = self._workers[number]
            await _ended(worker.process)
            code = worker.process.exitcode
            _log.error("worker ended and is started again", worker=number, exit_code=code, in_s=wait_s)
            worker.pipe.close()
            await asyncio.sleep(wait_s)
            self._workers[number] = worker = self._start(number, shared)
            wait_s = RESTART_FIRST_S if await self._started(worker) else min(2 * wait_s, RESTART_MAX_S)

    async def _stop_all(self) -> None:
        within_s = self._settings.drain_s + self._settings.drain_notice_s + KILL_AFTER_S
        for worker in self._workers.values():
            if worker.process.is_alive():
                worker.process.terminate()
        await asyncio.gather(*(self._end(worker, within_s) for worker in self._workers.values()))

    @staticmethod
    async def _end(worker: _Worker, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await _ended(worker.process)
        except TimeoutError:
            _log.warning("worker is killed", worker=worker.number, after_s=within_s)
            worker.process.kill()
            await _ended(worker.process)
        worker.pipe.close()

    def _https(self) -> dict[int, str]:
        return {
            number: worker.http
            for number, worker in self._workers.items()
            if worker.serving.is_set() and worker.process.is_alive()
        }

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping.is_set():
            say(f"{number.name} again, leaving at once")
            for worker in self._workers.values():
                worker.process.kill()
            os._exit(128 + number)
        self._stopping.set()


def worker_settings(settings: Settings, number: int, shared: Address) -> Settings:
    """Return the settings of one worker: its own folder, its own ports, everything else the same."""
    # Built anew: a class that read a file cannot be sent to another process, and nothing is read again there.
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    values |= {
        "workers": 1,
        "data_dir": settings.data_dir / f"worker-{number}",
        "object_dir": settings.object_dir or settings.data_dir / "objects",
        "listen": str(shared.with_port(0)),
        "http_listen": "127.0.0.1:0",
        # One file of keys for all, where `des keys` writes it.
        "auth": settings.auth.model_copy(update={"api_keys_file": api_keys_path(settings)}),
    }
    return Settings.model_construct(**values)


def run_worker(settings: Settings, shared: Address, allow_exposed: bool, pipe: Connection) -> None:  # noqa: FBT001
    """Serve one node in this process until a signal, or until the supervisor is gone."""
    configure_logging(level=settings.log_level, style=settings.log_format)
    # Ctrl-C reaches the whole group; the supervisor passes on what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(asyncio.run(_serve_worker(settings, shared, allow_exposed=allow_exposed, pipe=pipe)))


async def _serve_worker(settings: Settings, shared: Address, *, allow_exposed: bool, pipe: Connection) -> int:
    loop = asyncio.get_running_loop()

    def on_serving(server: DesServer) -> None:
        pipe.send((_STARTED, str(server.http_address)))
        loop.add_reader(pipe.fileno(), on_left_alone)

    def on_left_alone() -> None:
        loop.remove_reader(pipe.fileno())
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        return await serve(
            settings, Node.open, allow_exposed=allow_exposed, shared=shared, on_serving=on_serving
        )
    except (BrokenPipeError, EOFError):
        return EXIT_UNEXPECTED
    finally:
        with contextlib.suppress(OSError):
            pipe.close()


async def _ended(process: BaseProcess) -> None:
    """Return when a process has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)
    process.join()
