"""The metrics of the HTTP port: requests by door, never by path, since a path may hold a name."""

import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
OTHER: Final = "other"
"""Stands for every path that is no door, and for methods that HTTP does not name."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class HttpMetrics:
    """An ASGI application around another that counts its requests."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "des_http_requests_total",
            "Requests answered, by door, method and status.",
            ("door", "method", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "des_http_request_seconds",
            "Time from a request's begin to the end of its answer.",
            ("door",),
            buckets=BUCKETS_S,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        code = "none"

        async def counted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            door = getattr(scope.get("route"), "path", OTHER)
            method = scope["method"] if scope["method"] in METHODS else OTHER
            self._requests.labels(door, method, code).inc()
            self._seconds.labels(door).observe(time.perf_counter() - begun)
