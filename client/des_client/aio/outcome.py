"""How a grpc.aio upload really ended.

A write that fails because the server has just ended the call makes grpc.aio put "INTERNAL: Internal error
from Core" in the place of the server's own status, before or after that has arrived. The server's may be
final ("file too large") where a lost connection is worth another attempt, so it is dug out here.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

import grpc
from grpc import aio

from des_client.errors import FailedCall

T = TypeVar("T")

_WRITE_FAILED: Final = "Internal error from Core"
_GRACE_S: Final = 0.5
"""How long the server's status may lag behind the failed write."""
_POLL_S: Final = 0.005


class Ended:
    """The status of a call that is over."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Iterable[tuple[str, Any]]) -> None:
        self._code = code
        self._details = details
        self._trailers = tuple(trailers)

    def code(self) -> grpc.StatusCode:
        """Status code."""
        return self._code

    def details(self) -> str:
        """Message."""
        return self._details

    def trailing_metadata(self) -> Iterable[tuple[str, Any]]:
        """Trailers."""
        return self._trailers


class Outcome:
    """Notes every status that a call is given, from the moment it exists."""

    def __init__(self, call: aio.StreamUnaryCall[Any, Any]) -> None:
        self._call = call
        self._server: Ended | None = None
        self.ok = False
        """The server answered before the upload's end, and was content."""
        call.add_done_callback(self._note)

    def _note(self, call: aio.StreamUnaryCall[Any, Any]) -> None:
        if call.cancelled():
            return
        details = _now(call.details())
        if details == _WRITE_FAILED or self._server is not None:
            return
        code = _now(call.code())
        self.ok = code is grpc.StatusCode.OK
        self._server = Ended(code, details, _now(call.trailing_metadata()) or ())

    async def of(self, failed: aio.AioRpcError) -> FailedCall:
        """Return the server's status where `failed` only says that a write did not go out."""
        if failed.details() != _WRITE_FAILED:
            return failed
        for _ in range(int(_GRACE_S / _POLL_S)):
            if self._call.done():
                self._note(self._call)
            if self.ok:
                # Its answer is lost behind the failed write; repeating the put brings it again.
                return failed
            if self._server is not None:
                return self._server
            await asyncio.sleep(_POLL_S)
        return failed


def _now(ready: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine gives that has nothing to wait for."""
    try:
        ready.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    ready.close()
    raise RuntimeError("grpc.aio called back before the call was done")
