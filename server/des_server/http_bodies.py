"""How long the body of an HTTP request may be: files are written over gRPC, so what arrives here is short."""

from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from des.assignment.problems import problem

BODY_BYTES_MAX: Final = 64 << 10


class BodyLimit:
    """An ASGI application around another that gets no body longer than `BODY_BYTES_MAX`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; refuse one that announces too much, or sends it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = [value for key, value in scope["headers"] if key == b"content-length"]
        if any(int(value) > BODY_BYTES_MAX for value in announced):
            # What is on its way is read and dropped, else the caller might not see why.
            await problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LONG)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > BODY_BYTES_MAX:
                # It may never end: nobody goes on reading.
                raise HTTPException(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LONG, headers={"connection": "close"}
                )
            return message

        await self._app(scope, counted, send)


_TOO_LONG: Final = f"the body is longer than {BODY_BYTES_MAX} bytes"
