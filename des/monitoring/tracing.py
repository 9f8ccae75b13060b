"""Traces: one tree of spans for a call, from whoever made it to each request to the object store.

Nothing of OpenTelemetry is imported here: where tracing is off, a span costs one look at a context
variable. What is traced is decided once, where a tree begins; a span within none is nothing. No span holds
the name of a file or of a caller.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeAlias

CARRIED: Final = frozenset({"traceparent", "tracestate"})
"""Keys of a call's metadata that say whose part it is (W3C Trace Context)."""
SAMPLED: Final = 1
"""Bit of the flags, a traceparent's last byte, that says that its sender keeps the trace."""

Attributes: TypeAlias = dict[str, str | int | float | bool]
Spans: TypeAlias = AbstractContextManager[Any]

_NOTHING: Final[Spans] = nullcontext()


class Backend(Protocol):
    """What starts spans: OpenTelemetry, see `des.monitoring.otel`."""

    def start(
        self, name: str, *, kind: str, carrier: dict[str, str], is_root: bool, attributes: Attributes
    ) -> Spans:
        """Return a span that is current while it is entered.

        Args:
            name: of the span.
            kind: "server" or "internal".
            carrier: the caller's Trace Context; empty for none.
            is_root: begin a tree, or go on with the carrier's; else go on with the current span.
            attributes: of the span.
        """
        ...

    def trace_id(self) -> str:
        """Return the id of the current trace, 32 hexadecimal digits."""
        ...


class Tracing:
    """Decides which trees are kept."""

    def __init__(self, backend: Backend, ratio: float, *, draw: Callable[[], float] = random.random) -> None:
        """Keep `ratio` of the trees that begin here, and those whose caller keeps them."""
        self._backend = backend
        self._ratio = ratio
        self._draw = draw

    def of_call(self, name: str, metadata: Iterable[tuple[str, Any]] | None) -> Spans:
        """Return the span of a call that came in with `metadata`."""
        carrier = {key: str(value) for key, value in metadata or () if key in CARRIED}
        parent = carrier.get("traceparent")
        if parent is None:
            if self._draw() >= self._ratio:
                return _NOTHING
        elif not _is_kept(parent):
            return _NOTHING
        return self._entered(
            self._backend.start(name, kind="server", carrier=carrier, is_root=True, attributes={})
        )

    def root(self, name: str, **attributes: str | float | bool) -> Spans:
        """Return the span of work that nobody called for, or go on with the tree that is current."""
        if _ACTIVE.get() is None and self._draw() >= self._ratio:
            return _NOTHING
        is_root = _ACTIVE.get() is None
        return self._entered(
            self._backend.start(name, kind="internal", carrier={}, is_root=is_root, attributes=attributes)
        )

    def within(self, name: str, attributes: Attributes) -> Spans:
        """Return a span in the tree that is current."""
        return self._backend.start(name, kind="internal", carrier={}, is_root=False, attributes=attributes)

    def trace_id(self) -> str:
        """Return the id of the current trace."""
        return self._backend.trace_id()

    @contextmanager
    def _entered(self, started: Spans) -> Iterator[Any]:
        with started as one:
            token = _ACTIVE.set(self)
            try:
                yield one
            finally:
                _ACTIVE.reset(token)


_ACTIVE: Final[ContextVar[Tracing | None]] = ContextVar("des_trace", default=None)
"""Set within a tree that is kept."""
_PROCESS: Final[ContextVar[Tracing | None]] = ContextVar("des_tracing", default=None)
"""Set by the entry point, before it makes what it serves; every task made from there has it."""


def _is_kept(traceparent: str) -> bool:
    try:
        return bool(int(traceparent[-2:], 16) & SAMPLED)
    except ValueError:
        return False


def use_tracing(tracing: Tracing | None) -> None:
    """Trace what is made in this context from now on; None for nothing."""
    _PROCESS.set(tracing)


def tracing_here() -> Tracing | None:
    """Return what traces in this context; None where tracing is off."""
    return _PROCESS.get()


def span(name: str, **attributes: str | float | bool) -> Spans:
    """Return a span in the current tree; where there is none, nothing. Entered, it gives itself or None."""
    active = _ACTIVE.get()
    return _NOTHING if active is None else active.within(name, attributes)


def root_span(name: str, **attributes: str | float | bool) -> Spans:
    """Return a span in the current tree, or the first of one; where tracing is off, nothing."""
    tracing = _PROCESS.get()
    return _NOTHING if tracing is None else tracing.root(name, **attributes)


def add_trace_id(_logger: object, _method: str, event: Any) -> Any:
    """Add the id of the current trace to a log event (a processor of structlog)."""
    active = _ACTIVE.get()
    if active is not None:
        event["trace_id"] = active.trace_id()
    return event
