"""How obstore repeats requests, for every kind of store."""

from datetime import timedelta
from typing import TYPE_CHECKING

from des.config import StoreSettings

if TYPE_CHECKING:
    from obstore.store import RetryConfig


def obstore_retries(settings: StoreSettings) -> "RetryConfig":
    """Return the attempts and the time that the settings give one request."""
    return {
        "max_retries": settings.attempts - 1,
        "retry_timeout": timedelta(seconds=settings.deadline_s),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }
