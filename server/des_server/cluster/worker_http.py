"""One HTTP port for all workers: their health as one, their metrics side by side."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from des import __version__
from des_server.http import HttpServer
from des_server.listen import Address

ASK_TIMEOUT_S: Final = 3.0
WORKER_LABEL: Final = "worker"


class WorkersHttp:
    """Serves the HTTP port of a supervisor."""

    def __init__(self, workers: Callable[[], dict[int, str]], count: int) -> None:
        """Ask the workers that `workers` gives, number to host:port; ready are they when all `count` are."""
        self._workers = workers
        self._count = count
        self._server: HttpServer | None = None

    def start(self, wanted: Address) -> Address:
        """Listen and serve; return where.

        Raises:
            AddressInUseError: the address cannot be had.
        """
        self._server = HttpServer(self._app(), wanted.bind())
        self._server.start()
        return wanted.with_port(self._server.port)

    async def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            await self._server.stop()

    def _app(self) -> FastAPI:
        app = FastAPI(title="DES", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)

        @app.get("/metrics")
        async def metrics() -> Response:
            answers = await self._ask_all("/metrics")
            merged = merge({number: text for number, (status, text) in answers.items() if status == 200})
            return Response(merged, media_type=CONTENT_TYPE_LATEST)

        @app.get("/health/live")
        async def live() -> JSONResponse:
            return JSONResponse({"status": "live"})

        @app.get("/health/ready")
        @app.get("/health")
        async def readiness() -> JSONResponse:
            answers = await self._ask_all("/health/ready")
            told = {number: _json(text) for number, (_, text) in answers.items()}
            good = len(told) == self._count and all(status == 200 for status, _ in answers.values())
            return JSONResponse(
                {
                    "status": "ready" if good else "not ready",
                    "writable": good,
                    "readable": any(one.get("readable") for one in told.values()),
                    "cause": "; ".join(
                        f"worker {n}: {one['cause']}" for n, one in told.items() if one.get("cause")
                    ),
                    "version": __version__,
                    "degraded": sorted({name for one in told.values() for name in one.get("degraded", ())}),
                    "checks": [
                        {**check, WORKER_LABEL: n}
                        for n, one in told.items()
                        for check in one.get("checks", ())
                    ],
                    "workers": len(told),
                },
                status_code=200 if good else 503,
            )

        return app

    async def _ask_all(self, path: str) -> dict[int, tuple[int, str]]:
        workers = self._workers()
        answers = await asyncio.gather(
            *(asyncio.to_thread(_ask, f"http://{address}{path}") for address in workers.values())
        )
        return {number: answer for number, answer in zip(workers, answers, strict=True) if answer is not None}


def _ask(url: str) -> tuple[int, str] | None:
    """Return status and body; None where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=ASK_TIMEOUT_S) as response:  # noqa: S310  a worker's own port
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return None


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class _Merged(Collector):
    def __init__(self, texts: dict[int, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        """Yield every family once, with the samples of all workers."""
        merged: dict[str, Metric] = {}
        for number, text in self._texts.items():
            for family in _families(text):
                whole = merged.get(family.name)
                if whole is None:
                    whole = merged[family.name] = Metric(family.name, family.documentation, family.type)
                for sample in family.samples:
                    labels = {**sample.labels, WORKER_LABEL: str(number)}
                    whole.samples.append(Sample(sample.name, labels, sample.value))
        yield from merged.values()


def _families(text: str) -> Iterable[Metric]:
    families: Iterable[Metric] = text_string_to_metric_families(text)
    return families


def merge(texts: dict[int, str]) -> bytes:
    """Return the metrics of all workers as one page, each sample with its worker's number."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(texts))
    return generate_latest(registry)
