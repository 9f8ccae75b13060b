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
