"""The page that explains an HTTP interface, from its OpenAPI document and nothing else.

FastAPI's own pages load their scripts from other hosts; this one works where there are none.
"""

from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f3f5;border-radius:4px;padding:.1rem .3rem}"
    "pre{padding:.8rem;overflow:auto}section{border-top:1px solid #ddd;padding:.5rem 0}"
    "h2 b{display:inline-block;min-width:4.5rem;color:#0a5}table{border-collapse:collapse}"
    "td{border-top:1px solid #eee;padding:.2rem .8rem .2rem 0;vertical-align:top}"
)


def serve_docs(app: FastAPI) -> None:
    """Serve `/docs`; the document itself is at the application's `openapi_url`."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(
            render(app.openapi(), app.openapi_url or ""),
            headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )


def render(document: dict[str, Any], url: str) -> str:
    """Return the page of an OpenAPI document."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        f"<p>Machine-readable: <a href='{escape(url)}'><code>{escape(url)}</code></a></p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(document, path, method, operation))
    return "".join(parts)


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    rows = [
        (parameter["name"], parameter["in"], parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        rows += [
            (name, "body", field.get("description", "")) for name, field in _fields(document, body).items()
        ]
    answers = [
        (status, "answer", answer.get("description", ""))
        for status, answer in operation.get("responses", {}).items()
    ]
    table = "".join(
        f"<tr><td><code>{escape(str(name))}</code><td>{escape(kind)}<td>{escape(text)}"
        for name, kind, text in [*rows, *answers]
    )
    text = operation.get("description", operation.get("summary", ""))
    return (
        f"<section><h2><b>{escape(method.upper())}</b> <code>{escape(path)}</code></h2>"
        f"<p>{escape(text)}</p><table>{table}</table></section>"
    )


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = (document["components"]["schemas"][name] if name else schema).get(
        "properties", {}
    )
    return found
