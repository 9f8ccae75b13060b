"""Name assignment over HTTP: `des.assignment.service:app`, alone under uvicorn or inside `des serve`.

    DES_NODE_ID=7 DES_DB_URL=postgresql://… uvicorn des.assignment.service:app

One naming core with gRPC: `NameAssigner`. Alone, its only state is a mark in the catalog's database.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from des import __version__
from des.assignment.assigner import AssignedName, NameAssigner
from des.assignment.docs_page import serve_docs
from des.assignment.problems import answer_with_problems
from des.clock import SystemClock
from des.db import DesDbConnector, SqlCatalog
from des.db.name_marks import NameMarks
from des.errors import DesError
from des.naming import SnowflakeNameGenerator

META_HINT_LENGTH_MAX = 1024
NAMES_PER_CALL_MAX = 1000
RESERVE_AHEAD_MS = 10_000
"""How far names are reserved ahead of the clock: one transaction per about half this time of giving names."""

Assign = Callable[[int, str, str], Awaitable[list[AssignedName]]]
"""`assign(count, prefix, request_id)`, as `NameAssigner.assign`."""


class AssignmentSettings(BaseSettings):
    """What the service reads from the environment when it runs alone."""

    model_config = SettingsConfigDict(env_prefix="DES_", frozen=True, extra="ignore")

    node_id: Annotated[int, Field(ge=0, le=255)] = 0
    """Node id in the names; no other process may give names with it."""
    shard_bits: Annotated[int, Field(ge=0, le=16)] = 8
    wrap_bits: Annotated[int, Field(ge=27, le=32)] = 32
    name_prefix: str = "DES"
    db_url: str = "sqlite:///des-names.sqlite"
    """Database that keeps how far names were given."""
    archive_bucket: str = ""
    """Bucket that the containers of these names go to; told to whoever asks for the service's health."""


class AssignRequest(BaseModel):
    """What to name."""

    prefix: str = Field("", description="First part of the name, letters and digits; empty for the default.")
    meta_hint: str = Field(
        "",
        max_length=META_HINT_LENGTH_MAX,
        description="What the file is, for whoever reads the logs; it has no part in the name.",
    )


class AssignResponse(BaseModel):
    """A name that nobody else was given."""

    name: str
    shard_id: int = Field(description="The shard that the name belongs to.")
    day: str = Field(description="UTC day in the name, YYYY-MM-DD.")


def assign_router(assign: Assign, registry: CollectorRegistry) -> APIRouter:
    """Return `POST /assign` over a naming core, counted in `registry`."""
    router = APIRouter()
    assigned = Counter("des_http_assigned_names_total", "Names given over HTTP.", registry=registry)

    @router.post("/assign", responses={503: {"description": "No name can be given now; try again."}})
    async def assign_name(request: AssignRequest) -> AssignResponse:
        """Give one new name."""
        [name] = await assign(1, request.prefix, "")
        assigned.inc()
        day = f"{name.day[:4]}-{name.day[4:6]}-{name.day[6:]}"
        return AssignResponse(name=name.name, shard_id=name.shard, day=day)

    return router


def metrics_router(registry: CollectorRegistry) -> APIRouter:
    """Return `GET /metrics`."""
    router = APIRouter()

    @router.get("/metrics")
    async def metrics() -> Response:
        """Return what Prometheus scrapes."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


class _Alone:
    """The naming core of a process that has nothing else."""

    def __init__(self, settings: AssignmentSettings) -> None:
        self.settings = settings
        self._connector = DesDbConnector(settings.db_url)
        self.marks = NameMarks(self._connector, settings.node_id)
        self._assigner: NameAssigner | None = None
        self._generator: SnowflakeNameGenerator | None = None

    async def open(self) -> None:
        """Bring the schema up to date and go on behind the last name that may have been given."""
        await SqlCatalog(self._connector).migrate()
        self._generator = SnowflakeNameGenerator(
            node_id=self.settings.node_id,
            clock=SystemClock(),
            prefix=self.settings.name_prefix,
            wrap_bits=self.settings.wrap_bits,
            floor_ms=await self.marks.take(),
            reserve=self.marks.move,
            reserve_ahead_ms=RESERVE_AHEAD_MS,
        )
        self._assigner = NameAssigner(
            self._generator, shard_bits=self.settings.shard_bits, names_max=NAMES_PER_CALL_MAX
        )

    async def close(self) -> None:
        """Give no more names, and the connections back."""
        if self._generator is not None:
            await self._generator.close()
        await self._connector.close()

    async def assign(self, count: int, prefix: str, request_id: str) -> list[AssignedName]:
        """See `NameAssigner.assign`."""
        assert self._assigner is not None, "the application was not started"
        return await self._assigner.assign(count, prefix, request_id)


def make_app(settings: AssignmentSettings | None = None) -> FastAPI:
    """Return the application that runs alone; without `settings` it reads the environment when it starts."""
    alone: list[_Alone] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        core = _Alone(settings or AssignmentSettings())
        try:
            await core.open()
            alone.append(core)
            yield
        finally:
            alone.clear()
            await core.close()

    async def assign(count: int, prefix: str, request_id: str) -> list[AssignedName]:
        return await alone[0].assign(count, prefix, request_id)

    registry = CollectorRegistry()
    app = FastAPI(
        title="DES name assignment",
        description="Gives names for files: unique, and for ever bound to their shard and UTC day.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    answer_with_problems(app)
    app.include_router(assign_router(assign, registry))
    app.include_router(metrics_router(registry))
    serve_docs(app)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "live"}

    @app.get("/health/ready")
    @app.get("/health")
    async def ready() -> JSONResponse:
        """Say whether names can be given."""
        cause = ""
        try:
            await alone[0].marks.check()
        except DesError as error:
            cause = str(error)
        return JSONResponse(_health(alone[0].settings, cause), status_code=503 if cause else 200)

    return app


def _health(settings: AssignmentSettings, cause: str) -> dict[str, Any]:
    return {
        "status": "not ready" if cause else "ready",
        "cause": cause,
        "version": __version__,
        "node_id": settings.node_id,
        "shard_bits": settings.shard_bits,
        "archive_bucket": settings.archive_bucket,
    }


app = make_app()
