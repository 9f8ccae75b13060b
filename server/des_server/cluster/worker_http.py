"""One HTTP port for all workers: their health as one, one page, metrics side by side, any worker's doors."""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from des import __version__
from des.assignment.problems import problem
from des.config import TlsSettings
from des_server.cluster.worker_door import Answer, WorkerDoor
from des_server.cluster.worker_metrics import merge_metrics
from des_server.cluster.worker_reports import merge_health, merge_status
from des_server.http import HttpServer
from des_server.http_bodies import BodyLimit
from des_server.listen import Address
from des_server.security.tls import TlsFiles


class WorkersHttp:
    """Serves the HTTP port of a supervisor. It decides nothing: the workers tell who may see what."""

    def __init__(self, workers: Callable[[], Mapping[int, str]], count: int, tls: TlsSettings) -> None:
        """Ask the workers that `workers` gives, number to host:port; ready are they when all `count` are."""
        self._door = WorkerDoor(workers)
        self._count = count
        self._tls = TlsFiles(tls) if tls.cert is not None else None
        self._server: HttpServer | None = None

    def start(self, wanted: Address) -> Address:
        """Listen and serve; return where.

        Raises:
            AddressInUseError: the address cannot be had.
        """
        context = self._tls.http_context() if self._tls is not None else None
        self._server = HttpServer(self._app(), wanted.bind(), context)
        self._server.start()
        return wanted.with_port(self._server.port)

    async def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            await self._server.stop()
        await self._door.close()

    def _app(self) -> FastAPI:
        app = FastAPI(title="DES", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)

        @app.get("/metrics")
        async def metrics(request: Request) -> Response:
            answers = await self._door.ask_all("/metrics", request.headers.raw)
            texts = {number: answer.content.decode() for number, answer in good(answers).items()}
            if not texts:
                return refusal(answers)
            return Response(merge_metrics(texts, count=self._count), media_type=CONTENT_TYPE_LATEST)

        @app.get("/health/live")
        async def live() -> JSONResponse:
            return JSONResponse({"status": "live"})

        @app.get("/health/ready")
        @app.get("/health")
        async def readiness(request: Request) -> JSONResponse:
            answers = await self._door.ask_all("/health/ready", request.headers.raw)
            merged = merge_health(reports(answers), count=self._count)
            ready = merged["status"] == "ready"
            return JSONResponse(merged, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

        @app.get("/status.json")
        async def status(request: Request) -> Response:
            answers = await self._door.ask_all("/status.json", request.headers.raw)
            told = reports(good(answers))
            if not told:
                return refusal(answers)
            return JSONResponse(merge_status(told, count=self._count), headers={"cache-control": "no-store"})

        app.mount("/", BodyLimit(self._door))
        return app


def good(answers: Mapping[int, Answer]) -> dict[int, Answer]:
    """Return the answers that are what was asked for."""
    return {number: answer for number, answer in answers.items() if answer.status == HTTPStatus.OK}


def refusal(answers: Mapping[int, Answer]) -> Response:
    """Return what stands for all where no worker gives what was asked for: the word of one of them."""
    for answer in answers.values():
        return Response(answer.content, answer.status, media_type=answer.media_type)
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "no worker answers", {"retry-after": "1"}, reason="SERVER_BUSY"
    )


def reports(answers: Mapping[int, Answer]) -> dict[int, dict[str, Any]]:
    """Return the answers that are JSON objects."""
    told = {}
    for number, answer in answers.items():
        try:
            found = json.loads(answer.content)
        except ValueError:
            continue
        if isinstance(found, dict):
            told[number] = found
    return told
