"""Settings of a node."""

from des.config.settings import (
    CatalogSettings,
    ClusterSettings,
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
    "ClusterSettings",
    "LimitSettings",
    "LogSettings",
    "RedisSettings",
    "S3Settings",
    "SealSettings",
    "Settings",
    "StoredSettings",
    "load_settings",
]
