"""A TCP proxy that can be cut: a network between two processes that a test can take away."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self

CHUNK_BYTES: Final = 64 << 10
START_S: Final = 30.0


class Link(StrEnum):
    """What the network does."""

    UP = "up"
    REFUSING = "refusing"
    """Connections are closed, and so is every new one: the machine is there, the service is not."""
    SILENT = "silent"
    """Nothing passes, and nobody is told: a cable is out."""


class TcpProxy:
    """Forwards connections to one target, from a thread of its own."""

    def __init__(self, target: tuple[str, int] | str, *, listen: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        """Forward to `target`: (host, port), or the path of a socket file."""
        self._target = target
        self._link = Link.UP
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._up: asyncio.Event
        self._sock = socket.create_server(listen)
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.connections = 0
        """Made so far."""

    @property
    def address(self) -> str:
        """Where it listens, as host:port."""
        return f"{self._sock.getsockname()[0]}:{self.port}"

    def start(self) -> Self:
        """Listen."""
        started = threading.Event()
        self._loop.call_soon(started.set)
        self._thread.start()
        assert started.wait(START_S), "the proxy's thread does not start"
        return self

    def aim(self, target: tuple[str, int] | str) -> None:
        """Forward new connections to another target."""
        self._target = target

    def set(self, link: Link) -> None:
        """Change what the network does, now."""
        self._call(self._set(link))

    def stop(self) -> None:
        """Close everything. Twice is once."""
        if self._thread.is_alive():
            self._call(self._set(Link.REFUSING))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(START_S)
        self._sock.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(START_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._up = asyncio.Event()
        self._up.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._sock))
        try:
            self._loop.run_forever()
        finally:
            server.close()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    async def _set(self, link: Link) -> None:
        self._link = link
        if link is Link.SILENT:
            self._up.clear()
        else:
            self._up.set()
        if link is Link.REFUSING:
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _serve(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_out: asyncio.StreamWriter | None = None
        try:
            if self._link is Link.REFUSING:
                return
            await self._up.wait()
            self.connections += 1
            if isinstance(self._target, str):
                far, far_out = await asyncio.open_unix_connection(self._target)
            else:
                far, far_out = await asyncio.open_connection(*self._target)
            await asyncio.gather(self._pump(near, far_out), self._pump(far, near_out))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for out in (near_out, far_out):
                if out is not None:
                    out.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(CHUNK_BYTES):
            await self._up.wait()
            target.write(data)
            await target.drain()
        with contextlib.suppress(OSError):
            target.write_eof()
