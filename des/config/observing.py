"""Settings of what a node tells about itself."""

from typing import Annotated

from pydantic import Field

from des.config.group import Group


class HealthSettings(Group):
    """How a node looks at what it needs. Probes are told what was found last, and cost nothing."""

    interval_s: Annotated[float, Field(gt=0)] = 10
    """Time between two looks at database, object store, locks, log and disk."""
    timeout_s: Annotated[float, Field(gt=0)] = 5
    """How long one look may take."""


class TracingSettings(Group):
    """Traces of calls, sent to a collector of OpenTelemetry."""

    endpoint: str = ""
    """URL that takes OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`; empty for no traces."""
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Part of the calls that are traced although their caller does not ask for it."""
    service_name: str = "des"
    """Of this service, in the traces."""
