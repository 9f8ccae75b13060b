"""A proxy in front of PostgreSQL that cuts connections at COMMIT, before it or behind it.

It understands as much of the protocol as it takes to see a COMMIT go by and its answer come back
(https://www.postgresql.org/docs/current/protocol-message-formats.html).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

Moment = Literal["before", "after"]

_SSL_REQUEST: Final = 80877103
_GSS_REQUEST: Final = 80877104


class CommitCutter:
    """How the next COMMITs end. "before": they never arrive. "after": their answers never do."""

    def __init__(self) -> None:
        self.moment: Moment = "after"
        self.left = 0
        """How many more COMMITs are cut."""
        self.cut = 0
        """How many were."""

    def arm(self, moment: Moment, times: int = 1) -> None:
        """Cut the next `times` COMMITs."""
        self.moment, self.left, self.cut = moment, times, 0

    def take(self) -> bool:
        """Whether this COMMIT is to be cut."""
        if not self.left:
            return False
        self.left -= 1
        self.cut += 1
        return True


@asynccontextmanager
async def cutting_proxy(socket: Path, cutter: CommitCutter) -> AsyncIterator[int]:
    """Forward a loopback port to the server at `socket`; give the port."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            server, to_server = await asyncio.open_unix_connection(str(socket))
        except OSError:
            to_client.close()
            return
        answers = asyncio.create_task(_copy(server, to_client))
        try:
            await _forward(client, to_server, server, answers, cutter)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            for writer in (to_server, to_client):
                writer.transport.abort()
            connections.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await listener.wait_closed()


async def _forward(
    client: asyncio.StreamReader,
    to_server: asyncio.StreamWriter,
    server: asyncio.StreamReader,
    answers: "asyncio.Task[None]",
    cutter: CommitCutter,
) -> None:
    started = False
    while True:
        kind = await client.readexactly(1) if started else b""
        length = await client.readexactly(4)
        body = await client.readexactly(int.from_bytes(length, "big") - 4)
        if not started:
            started = int.from_bytes(body[:4], "big") not in {_SSL_REQUEST, _GSS_REQUEST}
        if kind == b"Q" and body.upper().startswith(b"COMMIT") and cutter.take():
            if cutter.moment == "after":
                answers.cancel()
                await asyncio.gather(answers, return_exceptions=True)
                to_server.write(kind + length + body)
                await to_server.drain()
                await _until_ready(server)
            return
        to_server.write(kind + length + body)
        await to_server.drain()


async def _until_ready(server: asyncio.StreamReader) -> None:
    """Read the server's answer to its end."""
    while True:
        head = await server.readexactly(5)
        await server.readexactly(int.from_bytes(head[1:], "big") - 4)
        if head[:1] == b"Z":
            return


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
