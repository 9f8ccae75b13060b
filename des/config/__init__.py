"""Settings of a node."""

from des.config.settings import (
    CatalogSettings,
    LimitSettings,
    LogSettings,
    RedisSettings,
    S3Settings,
    SealSettings,
    Settings,
    StoredSettings,
    load_settings,
)

__all__ = [
    "CatalogSettings",
    "LimitSettings",
    "LogSettings",
    "RedisSettings",
    "S3Settings",
    "SealSettings",
    "Settings",
    "StoredSettings",
    "load_settings",
]
