"""The gate in front of the HTTP port: the same credentials and grants as over gRPC."""

import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from des.assignment.problems import problem_of
from des.errors import DesError
from des_server.security.gate import CallGate
from des_server.security.principal import Verb

OPEN: Final = frozenset({"/health", "/health/live", "/health/ready"})
"""For probes, which have no credentials. They tell no name and no size."""
_DOORS: Final[Mapping[str, Verb]] = MappingProxyType({"/files/": Verb.READ, "/assign": Verb.ASSIGN})
"""What a path that begins so needs. Every other path, known or not, tells about the store: `SHARDS`."""


class HttpGate:
    """An ASGI application around another that lets only those through who may use it."""

    def __init__(self, app: ASGIApp, gate: CallGate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        verb = next((verb for start, verb in _DOORS.items() if path.startswith(start)), Verb.SHARDS)
        metadata = [
            (key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in scope["headers"]
        ]
        try:
            await self._gate.admit_for(
                frozenset({verb}),
                f"HTTP {scope['method']} {_door(path)}",
                metadata=metadata,
                certificate=None,
                request_id=secrets.token_hex(8),
            )
        except DesError as error:
            await problem_of(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _door(path: str) -> str:
    """Return a path's first part: the rest may be a name."""
    return "/" + path.lstrip("/").split("/", 1)[0][:64]
