"""Traces in OpenTelemetry; imported only where the settings ask for them (extra `otel`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from des import __version__
from des.config.observing import TracingSettings
from des.errors import InvalidInputError
from des.monitoring.tracing import Attributes, Spans, Tracing

KINDS: Final = {"server": trace.SpanKind.SERVER, "internal": trace.SpanKind.INTERNAL}
EXPORT_TIMEOUT_S: Final = 3
"""For sending a batch of spans, all attempts together: what a receiver that is away may hold up a stop."""


class MissingExporterError(InvalidInputError):
    """The settings ask for traces, and what sends them is not installed."""


class OpenTelemetry:
    """Starts spans, and sends those that ended through `processor`."""

    def __init__(self, service_name: str, processor: SpanProcessor) -> None:
        resource = Resource.create({"service.name": service_name, "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("des", __version__)

    def start(
        self, name: str, *, kind: str, carrier: dict[str, str], is_root: bool, attributes: Attributes
    ) -> Spans:
        """See `Backend.start`."""
        context = propagate.extract(carrier, context=Context()) if is_root else None
        return _quiet(
            self._tracer.start_as_current_span(
                name, context=context, kind=KINDS[kind], attributes=attributes, record_exception=False
            )
        )

    def trace_id(self) -> str:
        """See `Backend.trace_id`."""
        return f"{trace.get_current_span().get_span_context().trace_id:032x}"

    def close(self) -> None:
        """Send what is left; waits for the receiver a few seconds."""
        self._provider.shutdown()


@contextmanager
def _quiet(started: Any) -> Iterator[Any]:
    """Enter a span whose failure says what kind of error it was, and not its words: they may hold a name."""
    with started as one:
        try:
            yield one
        except BaseException as error:
            one.set_attribute("error.type", getattr(error, "reason", "") or type(error).__name__)
            one.set_status(trace.StatusCode.ERROR)
            raise


def open_tracing(settings: TracingSettings) -> tuple[Tracing, OpenTelemetry]:
    """Return what traces as the settings say, and what to close at the end.

    Raises:
        MissingExporterError: the exporter is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  optional
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise MissingExporterError("tracing.endpoint needs: pip install 'des-store[otel]'") from error
    exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=EXPORT_TIMEOUT_S)
    backend = OpenTelemetry(settings.service_name, BatchSpanProcessor(exporter))
    return Tracing(backend, settings.ratio), backend
