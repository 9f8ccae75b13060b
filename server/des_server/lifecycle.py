"""A server process from start to end: open, serve, drain, close."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, TextIO

import structlog
from prometheus_client import CollectorRegistry

from des.config import Settings
from des.errors import DesError, UnavailableError
from des.monitoring.tracing import use_tracing
from des.node import Node
from des_server import process_memory
from des_server.app import DesServer, build_server
from des_server.health import cancelled
from des_server.listen import (
    Address,
    AddressInvalidError,
    AddressRefusedError,
    advertised,
    refuse_exposed,
)

EXIT_OK: Final = 0
EXIT_UNEXPECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_REFUSED: Final = 3

EXPOSED_WARNING_INTERVAL_S: Final = 60.0
REOPEN_DRAIN_S: Final = 2.0
"""How long calls may take to end before a node is opened anew."""
REOPEN_RETRY_S: Final = 0.5
REOPEN_QUIET_S: Final = 0.5
"""How long clients are refused before the port is closed, which would cut off what is on its way."""

_log = structlog.get_logger(__name__)

OpenNode = Callable[[Settings], Awaitable[Node]]


def say(message: str, *, stream: TextIO | None = None) -> None:
    """Write one plain line, at once; to stderr unless told otherwise."""
    print(f"des: {message}", file=stream or sys.stderr, flush=True)


async def serve(
    settings: Settings,
    open_node: OpenNode,
    *,
    allow_exposed: bool,
    registry: CollectorRegistry | None = None,
    shared: Address | None = None,
    on_serving: Callable[[DesServer], None] | None = None,
) -> int:
    """Serve a node until a signal, and return the process's exit code.

    Serves `shared` too, which is other processes' as well; `on_serving` hears when all is served, instead
    of standard output.

    The first SIGTERM or SIGINT drains; the second one ends the process at once, which loses nothing
    that was acknowledged.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stopping.is_set():
            say(f"{number.name} again, leaving at once")
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await _serve(
            settings,
            open_node,
            stopping,
            allow_exposed=allow_exposed,
            shared=shared,
            registry=registry,
            on_serving=on_serving or _say_serving,
        )
    except (AddressInvalidError, AddressRefusedError) as error:
        say(str(error))
        return EXIT_USAGE
    except (DesError, OSError) as error:
        say(f"cannot start: {error}")
        return EXIT_REFUSED
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _serve(
    settings: Settings,
    open_node: OpenNode,
    stopping: asyncio.Event,
    *,
    allow_exposed: bool,
    registry: CollectorRegistry | None,
    shared: Address | None,
    on_serving: Callable[[DesServer], None],
) -> int:
    addresses = [Address.parse(text) for text in (settings.listen, settings.http_listen) if text]
    if not allow_exposed:
        refuse_exposed(addresses, tls=settings.tls.cert is not None, auth=settings.authenticates)
    traces = None
    if settings.tracing.endpoint:
        from des.monitoring.otel import open_tracing  # noqa: PLC0415  optional dependency

        tracing, traces = open_tracing(settings.tracing)
        use_tracing(tracing)
    try:
        # Once, and again with the same ports whenever the store is divided into other shards (ADR 0021), and
        # when a disk that was too full for the log to be opened for writing has room again.
        again = False
        while not stopping.is_set():
            try:
                settings = await _serve_once(
                    settings,
                    open_node,
                    stopping,
                    registry=registry,
                    shared=shared,
                    on_serving=_log_serving if again else on_serving,
                )
            except UnavailableError as error:
                if not again or stopping.is_set():
                    raise
                _log.warning("the node is not open again yet", error=str(error))
                await asyncio.sleep(REOPEN_RETRY_S)
            again = True
    finally:
        if traces is not None:
            await asyncio.to_thread(traces.close)
    return EXIT_OK


async def _serve_once(
    settings: Settings,
    open_node: OpenNode,
    stopping: asyncio.Event,
    *,
    registry: CollectorRegistry | None,
    shared: Address | None,
    on_serving: Callable[[DesServer], None],
) -> Settings:
    """Serve until a signal, or until the node has to be opened anew; return the settings for that."""
    addresses = [Address.parse(text) for text in (settings.listen, settings.http_listen) if text]
    node = await open_node(settings)
    settings = settings.model_copy(update={"shard_bits": node.settings.shard_bits})
    metrics = CollectorRegistry()  # the caller's outlive the node's
    if registry is not None:
        metrics.register(registry)
    try:
        server = build_server(node, settings, registry=metrics, shared=shared)
        await server.start()
        assert server.address is not None
        if node.cluster is not None:
            await node.join(
                advertised(server.address, settings.cluster.advertise, own_port=shared is not None)
            )
        process_memory.settle()
        exposed = asyncio.create_task(_warn_exposed(server, addresses))
        try:
            on_serving(server)
            if await _ends(stopping, node):
                await _leave(server, node)
            else:
                drained = await server.drain(notice_s=0, within_s=REOPEN_DRAIN_S, quiet_s=REOPEN_QUIET_S)
                _log.info("opening anew, for other shards or since the disk has room again", drained=drained)
        finally:
            await cancelled(exposed)
            await server.stop()
    finally:
        await node.close()
    return settings.model_copy(
        update={
            "listen": str(server.address),
            "http_listen": str(server.http_address) if server.http_address is not None else "",
        }
    )


async def _ends(stopping: asyncio.Event, node: Node) -> bool:
    """Wait for a signal, and return True; False where the node has to be opened anew before."""
    waiting: list[asyncio.Task[Any]] = [
        asyncio.create_task(stopping.wait()),
        asyncio.create_task(node.wait_room()),
    ]
    if node.cluster is not None:
        waiting.append(asyncio.create_task(node.cluster.wait_resharded()))
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return stopping.is_set()


def _log_serving(server: DesServer) -> None:
    _log.info("serving again", shard_bits=server.settings.shard_bits, address=str(server.address))


def _say_serving(server: DesServer) -> None:
    say(
        f"serving gRPC on {server.address}, HTTP on {server.http_address or 'no port'}, "
        f"data in {server.settings.data_dir}",
        stream=sys.stdout,
    )


async def _leave(server: DesServer, node: Node) -> None:
    settings = server.settings
    # Other nodes take the shards while calls are still answered here, or sent on to them.
    await server.health.leave()
    await node.leave(within_s=settings.drain_s / 2)
    _log.info(
        "draining", calls=server.inflight.count, notice_s=settings.drain_notice_s, within_s=settings.drain_s
    )
    if await server.drain(notice_s=settings.drain_notice_s, within_s=settings.drain_s):
        _log.info("drained")
    else:
        _log.warning("calls are cut off", calls=server.inflight.count, after_s=settings.drain_s)


async def _warn_exposed(server: DesServer, addresses: list[Address]) -> None:
    """Remind, every minute, that anyone who reaches the port may read and write everything."""
    settings = server.settings
    safe = settings.tls.cert is not None and settings.authenticates
    reachable = [str(address) for address in addresses if not (safe or address.is_loopback())]
    server.metrics.insecure.set(bool(reachable))
    while reachable:
        _log.warning("reachable from other machines without both TLS and authentication", addresses=reachable)
        await asyncio.sleep(EXPOSED_WARNING_INTERVAL_S)
