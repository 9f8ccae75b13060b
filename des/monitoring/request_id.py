"""The call that is being served, for every line that is logged while it is."""

from contextvars import ContextVar
from typing import Any, Final

REQUEST_ID: Final[ContextVar[str]] = ContextVar("des_request_id", default="")
"""Id of the call of this task; empty outside of calls."""


def add_request_id(_logger: object, _method: str, event: Any) -> Any:
    """Add the call's id to a log event that does not name it (a processor of structlog)."""
    request_id = REQUEST_ID.get()
    if request_id:
        event.setdefault("request_id", request_id)
    return event
