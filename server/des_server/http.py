"""The HTTP port: health for probes, metrics for Prometheus. It changes nothing and names no file."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from des import __version__
from des.node import NodeHealth


def make_app(registry: CollectorRegistry, ready: Callable[[], NodeHealth]) -> FastAPI:
    """Return the application over a registry and what tells whether the node is ready."""
    app = FastAPI(title="DES", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/health/live")
    async def live() -> JSONResponse:
        return JSONResponse({"status": "live"})

    @app.get("/health/ready")
    @app.get("/health")
    async def readiness() -> JSONResponse:
        now = ready()
        good = now.readable and now.writable
        return JSONResponse(
            {
                "status": "ready" if good else "not ready",
                "writable": now.writable,
                "readable": now.readable,
                "cause": now.cause,
                "version": __version__,
            },
            status_code=200 if good else 503,
        )

    return app


class _Uvicorn(uvicorn.Server):
    """A uvicorn that leaves the process's signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an application on a socket, in the loop that everything else runs in."""

    def __init__(self, app: FastAPI, sock: socket.socket) -> None:
        self._sock = sock
        self.port: int = sock.getsockname()[1]
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=1,
                limit_concurrency=256,
            )
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve from now on."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._sock]))

    async def stop(self) -> None:
        """Close the connections and the socket."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._sock.close()
