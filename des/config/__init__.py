"""Settings of a node."""

from des.config.settings import (
    LimitSettings,
    LogSettings,
    SealSettings,
    Settings,
    load_settings,
)

__all__ = ["LimitSettings", "LogSettings", "SealSettings", "Settings", "load_settings"]
