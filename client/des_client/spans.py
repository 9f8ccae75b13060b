"""A span of OpenTelemetry around each operation of a client that was made with `tracing`.

The operations of such a client are wrapped when it is made; others are untouched, and this module is not
imported. An operation is one span however often it is tried: each attempt carries the span to a server, whose
own spans become its children. Spans hold no file's name; an error is its kind.
"""

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any, Final

from opentelemetry import trace

OPERATIONS: Final = (
    "put",
    "get",
    "get_to",
    "stat",
    "exists",
    "delete",
    "assign_names",
    "put_many",
    "get_many",
    "stat_many",
    "delete_many",
    "wait_stored",
    "shard_status",
    "seal_shard",
    "server_info",
    "watch_shards",
)
"""What has a span of its name. What is iterated lasts until its reader has all, or reads no further."""

LISTING: Final = "_list_answers"
"""What every iteration of a listing asks through, whatever it gives of each file: its span is `des.list`.
Readers of open files have no span: their calls are in the trace that is current when they are made."""


def give_spans(client: object, provider: trace.TracerProvider | None) -> None:
    """Wrap the operations of one client; None for the provider that the process has set."""
    tracer = trace.get_tracer("des_client", tracer_provider=provider)
    for method, name in (*zip(OPERATIONS, OPERATIONS, strict=True), (LISTING, "list")):
        start = functools.partial(_start, tracer, f"des.{name}")
        setattr(client, method, _spanned(getattr(client, method), start))


def _start(tracer: trace.Tracer, name: str) -> trace.Span:
    return tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes={"rpc.system": "grpc"})


def _spanned(operation: Callable[..., Any], start: Callable[[], trace.Span]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(operation):

        async def pieces(*arguments: Any, **options: Any) -> AsyncGenerator[Any, None]:
            with _ended(start()) as span:
                async with contextlib.aclosing(operation(*arguments, **options)) as inner:
                    while True:
                        with _current(span):
                            try:
                                piece = await anext(inner)
                            except StopAsyncIteration:
                                return
                        yield piece

        return functools.wraps(operation)(pieces)
    if inspect.isgeneratorfunction(operation):

        def parts(*arguments: Any, **options: Any) -> Generator[Any, None, None]:
            with _ended(start()) as span, contextlib.closing(operation(*arguments, **options)) as inner:
                while True:
                    with _current(span):
                        try:
                            part = next(inner)
                        except StopIteration:
                            return
                    yield part

        return functools.wraps(operation)(parts)
    if inspect.iscoroutinefunction(operation):

        async def answer(*arguments: Any, **options: Any) -> Any:
            with _ended(start()) as span, _current(span):
                return await operation(*arguments, **options)

        return functools.wraps(operation)(answer)

    def result(*arguments: Any, **options: Any) -> Any:
        with _ended(start()) as span, _current(span):
            return operation(*arguments, **options)

    return functools.wraps(operation)(result)


def _current(span: trace.Span) -> contextlib.AbstractContextManager[trace.Span]:
    """Make a span the current one. What a generator gives is used outside of it."""
    return trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)


@contextlib.contextmanager
def _ended(span: trace.Span) -> Iterator[trace.Span]:
    """End a span with what is inside; a reader that stops reading is no error."""
    try:
        yield span
    except GeneratorExit:
        raise
    except BaseException as error:
        span.set_attribute("error.type", getattr(error, "reason", "") or type(error).__name__)
        span.set_status(trace.StatusCode.ERROR)
        raise
    finally:
        span.end()
