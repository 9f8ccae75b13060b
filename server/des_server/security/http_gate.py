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

OPEN: Final = frozenset({"/", "/status", "/health", "/health/live", "/health/ready"})
"""For probes, which have no credentials and are told whether, not why; and a page without a fact in it."""
DETAIL: Final = "des.detail"
"""Key of an ASGI scope: whether the caller may be told why. Not set where everyone may."""
_DOORS: Final[Mapping[str, Verb]] = MappingProxyType({"/files/": Verb.READ, "/assign": Verb.ASSIGN})
"""What a path that begins so needs. Every other path, known or not, tells about the store: `SHARDS`."""


class HttpGate:
    """An ASGI application around another that lets only those through who may use it."""

    def __init__(self, app: ASGIApp, gate: CallGate, *, tell_all: bool = False) -> None:
        """Guard `app`; with `tell_all` what is open to everyone is so with all its detail."""
        self._app = app
        self._gate = gate
        self._tell_all = tell_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] in OPEN:
            scope[DETAIL] = self._tell_all or await self._is_known(scope)
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        verb = next((verb for start, verb in _DOORS.items() if path.startswith(start)), Verb.SHARDS)
        try:
            await self._admit(scope, verb)
        except DesError as error:
            await problem_of(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _is_known(self, scope: Scope) -> bool:
        """Whether the caller showed credentials that tell about the store."""
        if not any(key.lower() == b"authorization" for key, _ in scope["headers"]):
            return False
        try:
            await self._admit(scope, Verb.SHARDS)
        except DesError:
            return False
        return True

    async def _admit(self, scope: Scope, verb: Verb) -> None:
        metadata = [
            (key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in scope["headers"]
        ]
        await self._gate.admit_for(
            frozenset({verb}),
            f"HTTP {scope['method']} {_door(scope['path'])}",
            metadata=metadata,
            certificate=None,
            request_id=secrets.token_hex(8),
        )


def _door(path: str) -> str:
    """Return a path's first part: the rest may be a name."""
    return "/" + path.lstrip("/").split("/", 1)[0][:64]
