"""What happens around every call: request id, admission, errors, metrics.

A handler is wrapped once, when it is registered, and not at each call as `grpc.aio`'s own
interceptors are; a call then costs its wrapper and no look-up.
"""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, Generic, NoReturn, TypeAlias, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from grpc.aio import EOF, AbortError, ServicerContext

from des.errors import DesError, InvalidInputError
from des.monitoring.request_id import REQUEST_ID
from des.monitoring.tracing import Tracing, tracing_here
from des_server.inflight import InFlight
from des_server.interceptors.metrics import GrpcMetrics
from des_server.security.gate import CallGate
from des_server.status import CallStatus, internal_status, status_of

REQUEST_ID_KEY: Final = "des-request-id"
REQUEST_ID_LENGTH_MAX: Final = 128
DISCARD_MESSAGES_MAX: Final = 16
DISCARD_BYTES_MAX: Final = 2 << 20
"""Read on after an error, whoever sends: what is allocated for strangers' messages stays with the process."""
DISCARD_WAIT_S: Final = 0.1
EXPECTED_REASONS: Final = frozenset({"SHUTTING_DOWN", "SERVER_BUSY"})
"""UNAVAILABLE for reasons that metrics show; logging each one would help whoever causes them."""

_ENDS_WITH_STATUS: Final = "ends_with_status"

_log = structlog.get_logger(__name__)
_Request = TypeVar("_Request")
_Context: TypeAlias = ServicerContext[Any, Any]
Handler: TypeAlias = Callable[[Any, _Context], Any]
_Handler = TypeVar("_Handler", bound=Callable[..., Coroutine[Any, Any, Any]])


class MalformedMessageError(InvalidInputError):
    """The bytes of a message are not one of the method's."""


class _Malformed:
    """Stands for a message that could not be read, until somebody can say so."""

    def __init__(self, cause: str, size: int) -> None:
        self.cause = cause  # not the error: its traceback would keep the bytes, and itself, in memory
        self._size = size

    def ByteSize(self) -> int:  # noqa: N802  as messages have it
        """Return how many bytes came."""
        return self._size


def readable(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return how to read a message so that bytes which are none are refused in our own words.

    gRPC would end the call as UNKNOWN, with the parser's, and call it a defect in its log.
    """

    def read(raw: bytes) -> Any:
        try:
            return parse(raw)
        except DecodeError as error:
            return _Malformed(str(error), len(raw))

    return read


def _refuse(message: _Malformed) -> NoReturn:
    raise MalformedMessageError(f"the message is not the method's: {message.cause}", field="")


class Incoming(Generic[_Request]):
    """The messages of a stream of requests, counted."""

    __slots__ = ("_read", "_under_way", "count")

    def __init__(self, context: ServicerContext[_Request, Any]) -> None:
        self._read = context.read
        self._under_way: asyncio.Future[Any] | None = None
        self.count = 0

    async def read(self) -> _Request | None:
        """Return the next message, None after the last."""
        message = await self._read()
        if message is EOF:
            return None
        self.count += 1
        if isinstance(message, _Malformed):
            _refuse(message)
        return message

    def discard_after(self, reading: "asyncio.Future[Any]") -> None:
        """Let `discard_rest` wait for a read that is still under way: gRPC allows one at a time."""
        self._under_way = reading

    async def discard_rest(self) -> None:
        """Read on a little after an error.

        A status sent to a client that is still writing breaks its write, and `grpc.aio` clients then
        report that instead of the status.
        """
        reading = asyncio.ensure_future(self._discard())
        _DISCARDING.add(reading)  # for the loop itself keeps no task alive
        reading.add_done_callback(_discarded)
        # Not cancelled when its time is over: it ends with the call. gRPC never frees the message that
        # arrives for a read that was cancelled.
        await asyncio.wait({reading}, timeout=DISCARD_WAIT_S)

    async def _discard(self) -> None:
        if self._under_way is not None and await self._under_way is None:
            return
        size = 0
        for _ in range(DISCARD_MESSAGES_MAX):
            message: Any = await self._read()
            if message is EOF:
                return
            self.count += 1
            size += message.ByteSize()
            if size > DISCARD_BYTES_MAX:
                return

    def __aiter__(self) -> AsyncIterator[_Request]:
        return self

    async def __anext__(self) -> _Request:
        message = await self.read()
        if message is None:
            raise StopAsyncIteration
        return message


_DISCARDING: Final[set["asyncio.Future[None]"]] = set()


def _discarded(reading: "asyncio.Future[None]") -> None:
    _DISCARDING.discard(reading)
    if not reading.cancelled():
        reading.exception()  # the call is over: what a read of it says is of no interest


class _Counted:
    """A context that counts what is written to it, for handlers that write their answers themselves."""

    def __init__(self, context: _Context) -> None:
        self._context = context
        self.count = 0

    async def write(self, message: Any) -> None:
        await self._context.write(message)
        self.count += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class Outgoing:
    """Where a handler that `ends_with_status` writes all messages but the last."""

    __slots__ = ("_context", "count", "trailers")

    def __init__(self, context: _Context) -> None:
        self._context = context
        self.count = 0
        self.trailers: tuple[tuple[str, str], ...] = ()
        """What goes out with the status, beside the request id."""

    @property
    def context(self) -> _Context:
        """The call."""
        return self._context

    async def write(self, message: Message | bytes) -> None:
        """Send a message."""
        await self._context.write(serialized(message))  # gRPC has no serializer for what a handler writes
        self.count += 1


def serialized(message: Message | bytes) -> bytes:
    """Return a message's bytes; a handler may have made them itself."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def ends_with_status(handler: _Handler) -> _Handler:
    """Mark a handler of a stream of responses that returns its last message instead of writing it.

    It takes an `Outgoing` for the others. gRPC then sends last message and status in one step, as it
    does for single responses, which a stream of one cannot be told from on the wire. For a small answer
    that step is a sixth of all the server does.
    """
    setattr(handler, _ENDS_WITH_STATUS, True)
    return handler


def does_end_with_status(handler: Handler) -> bool:
    """Tell whether a handler was so marked."""
    return getattr(handler, _ENDS_WITH_STATUS, False)


class CallWrapper:
    """Wraps the handlers of all four arities alike."""

    def __init__(
        self,
        *,
        metrics: GrpcMetrics,
        inflight: InFlight,
        make_request_id: Callable[[], str],
        gate: CallGate | None = None,
    ) -> None:
        """Share what all calls share; without a `gate` everyone is served."""
        self._metrics = metrics
        self._inflight = inflight
        self._make_request_id = make_request_id
        self._gate = gate
        self._tracing = tracing_here()

    def wrap(
        self,
        handler: Handler,
        *,
        service: str,
        method: str,
        client_stream: bool,
        server_stream: bool,
        admit: bool,
    ) -> Handler:
        """Return `handler` with everything around it.

        Args:
            handler: takes a request (a stream of requests: an `Incoming`) and the context. It returns
                an awaitable response; for a stream of responses an async iterator; or, if it is a
                coroutine function, nothing, having written them to the context; or, if it
                `ends_with_status`, the last of them.
            service: full name of the service.
            method: name of the method.
            client_stream: many requests.
            server_stream: many responses.
            admit: count the call, and refuse it when the server is full or leaving. Health and
                reflection are always answered.
        """
        kind = _KINDS[client_stream, server_stream]
        series = self._metrics.of(service, method, kind=kind)
        full_name = f"{service}/{method}"
        inflight = self._inflight if admit else None
        gate = self._gate if admit else None
        ends_with_status = server_stream and does_end_with_status(handler)
        writes_itself = server_stream and not ends_with_status and inspect.iscoroutinefunction(handler)

        async def call(request: Any, context: _Context) -> Any:
            begun = time.perf_counter()
            series.started += 1
            request_id = self._request_id(context)
            REQUEST_ID.set(request_id)  # of this task, which ends with the call
            context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
            sent = 0
            entered = False
            code = grpc.StatusCode.OK
            if client_stream:
                request = Incoming(context)
            try:
                if gate is not None:
                    await gate.admit(
                        full_name,
                        metadata=context.invocation_metadata(),
                        certificate=context.auth_context(),
                        request_id=request_id,
                    )
                if inflight is not None:
                    inflight.enter()
                    entered = True
                if type(request) is _Malformed:
                    _refuse(request)
                if not server_stream:
                    response = await handler(request, context)
                    sent = 1
                    return response
                if ends_with_status:
                    outgoing = Outgoing(context)
                    try:
                        response = await handler(request, cast("_Context", outgoing))
                    finally:
                        sent = outgoing.count
                    if outgoing.trailers:
                        context.set_trailing_metadata((*context.trailing_metadata(), *outgoing.trailers))
                    sent += 1
                    return response
                if writes_itself:
                    counted = _Counted(context)
                    try:
                        await handler(request, cast("_Context", counted))
                    finally:
                        sent = counted.count
                    return None
                async with contextlib.aclosing(handler(request, context)) as responses:
                    async for response in responses:
                        await context.write(response)
                        sent += 1
                return None
            except BaseException as error:
                code, status = _ending(error, context, method=full_name, request_id=request_id)
                if status is not None:
                    if client_stream:
                        await request.discard_rest()
                    trailers = (*context.trailing_metadata(), *status.trailers)
                    await context.abort(status.code, status.message, trailers)
                if isinstance(error, grpc.aio.InternalError):
                    raise asyncio.CancelledError from error
                raise
            finally:
                received = request.count if client_stream else 1
                series.end(code, received=received, sent=sent, seconds=time.perf_counter() - begun)
                if entered:
                    self._inflight.leave()

        return call if self._tracing is None else _traced(call, full_name, self._tracing)

    def _request_id(self, context: _Context) -> str:
        for key, value in context.invocation_metadata() or ():
            if key == REQUEST_ID_KEY:
                text = str(value)
                if 0 < len(text) <= REQUEST_ID_LENGTH_MAX and text.isascii() and text.isprintable():
                    return text
                break
        return self._make_request_id()


def _traced(call: Handler, full_name: str, tracing: Tracing) -> Handler:
    service, _, method = full_name.rpartition("/")

    async def traced(request: Any, context: _Context) -> Any:
        with tracing.of_call(full_name, context.invocation_metadata()) as span:
            if span is None:
                return await call(request, context)
            try:
                return await call(request, context)
            finally:
                code = context.code()
                number = code.value[0] if isinstance(code, grpc.StatusCode) else code or 0
                ids = [value for key, value in context.trailing_metadata() or () if key == REQUEST_ID_KEY]
                span.set_attributes(
                    {
                        "rpc.system": "grpc",
                        "rpc.service": service,
                        "rpc.method": method,
                        "rpc.grpc.status_code": number,
                        "des.request_id": str(ids[0]) if ids else "",
                    }
                )

    return traced


_KINDS: Final = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


def _ending(
    error: BaseException, context: _Context, *, method: str, request_id: str
) -> tuple[grpc.StatusCode, CallStatus | None]:
    """Say how `error` ends the call; without a status where gRPC has ended it already."""
    if isinstance(error, DesError) and (status := status_of(error)).code is not grpc.StatusCode.INTERNAL:
        _log_failure(error, status, method=method, request_id=request_id)
        return status.code, status
    if isinstance(error, asyncio.CancelledError):
        # gRPC cancels the handler when the client goes away and when the deadline passes.
        remaining = context.time_remaining()
        late = remaining is not None and remaining <= 0
        return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED, None
    if isinstance(error, grpc.aio.InternalError):
        # A read or write on a call that the client has left, seen before the cancellation arrives.
        return grpc.StatusCode.CANCELLED, None
    if isinstance(error, AbortError):
        return context.code(), None
    if isinstance(error, Exception):
        _log.error("unexpected error", method=method, request_id=request_id, exc_info=error)
        return grpc.StatusCode.INTERNAL, internal_status(request_id)
    return grpc.StatusCode.CANCELLED, None


def _log_failure(error: DesError, status: CallStatus, *, method: str, request_id: str) -> None:
    facts = {
        "method": method,
        "request_id": request_id,
        "code": status.code.name,
        "reason": error.reason,
        "message": status.message,
    }
    if status.code is grpc.StatusCode.DATA_LOSS:
        _log.error("call failed", exc_info=error, **facts)
    elif status.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED} and (
        error.reason not in EXPECTED_REASONS
    ):
        _log.warning("call failed", **facts)
    else:
        _log.debug("call failed", **facts)
