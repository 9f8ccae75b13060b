"""Settings of a node."""

from des.config.settings import (
    LimitSettings,
    LogSettings,
    S3Settings,
    SealSettings,
    Settings,
    load_settings,
)

__all__ = ["LimitSettings", "LogSettings", "S3Settings", "SealSettings", "Settings", "load_settings"]
