"""The HTTP port: health for probes, metrics for Prometheus, names, files to read, and a page that says so."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from des import __version__
from des.assignment.docs_page import serve_docs
from des.assignment.problems import answer_with_problems
from des.assignment.service import metrics_router
from des.node import NodeHealth
from des.packer.health import CheckResult, CheckState
from des_server.security.http_gate import DETAIL

LESS = frozenset({CheckState.DEGRADED, CheckState.FAILED})


def make_app(
    registry: CollectorRegistry,
    ready: Callable[[], NodeHealth],
    routers: Sequence[APIRouter] = (),
    *,
    checks: Callable[[], Sequence[CheckResult]] = lambda: (),
) -> FastAPI:
    """Return the application over a registry, what tells whether the node is ready, and its doors.

    `checks` gives what each check found last; it is shown to whom `HttpGate` lets see it.
    """
    app = FastAPI(
        title="DES",
        description="A store for very many small files. Files are read here; they are written over gRPC.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
    )
    answer_with_problems(app)
    app.include_router(metrics_router(registry))
    for router in routers:
        app.include_router(router)
    serve_docs(app)

    @app.get("/health/live")
    async def live() -> JSONResponse:
        return JSONResponse({"status": "live"})

    @app.get("/health/ready")
    @app.get("/health")
    async def readiness(request: Request) -> JSONResponse:
        now = ready()
        good = now.readable and now.writable
        told: dict[str, object] = {
            "status": "ready" if good else "not ready",
            "writable": now.writable,
            "readable": now.readable,
        }
        if request.scope.get(DETAIL, True):
            found = checks()
            now_ms = time.time_ns() // 1_000_000
            told |= {
                "cause": now.cause,
                "version": __version__,
                "degraded": [one.name for one in found if one.state in LESS],
                "checks": [one.as_json(now_ms) for one in found],
            }
        return JSONResponse(told, status_code=200 if good else 503)

    return app


class _Uvicorn(uvicorn.Server):
    """A uvicorn that leaves the process's signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an application on a socket, in the loop that everything else runs in."""

    def __init__(self, app: ASGIApp, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Take the listening socket; with `tls` nobody is served in plain text."""
        self._sock = sock
        self.port: int = sock.getsockname()[1]
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=1,
            limit_concurrency=256,
        )
        if tls is not None:
            config.load()  # before: it would make a context of its own from files
            config.ssl = tls
        self._server = _Uvicorn(config)
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
