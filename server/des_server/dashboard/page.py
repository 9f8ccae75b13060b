"""`/status` and `/status.json`: one document, style and script within it, nothing from anywhere else."""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse

from des_server.dashboard.report import StatusReporter


def status_router(reporter: StatusReporter) -> APIRouter:
    """Return the page, which holds no fact of the store, and the facts behind it."""
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    @router.get("/status", include_in_schema=False)
    async def page() -> HTMLResponse:
        text, policy = document()
        return HTMLResponse(
            text, headers={"content-security-policy": policy, "x-content-type-options": "nosniff"}
        )

    @router.get("/status.json")
    async def status() -> JSONResponse:
        """Return how the node is: health, shards, throughput, containers per day, nodes, last troubles."""
        told: dict[str, Any] = await reporter.tell()
        return JSONResponse(told, headers={"cache-control": "no-store"})

    return router


@cache
def document() -> tuple[str, str]:
    """Return the page, and the policy under which it may run: this style, this script, this host."""
    folder = files("des_server.dashboard")
    style, script = ((folder / name).read_text("utf-8") for name in ("page.css", "page.js"))
    text = (folder / "page.html").read_text("utf-8").replace("/*style*/", style).replace("/*script*/", script)
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
