"""Settings of a node."""

from des.config.settings import (
    AuthSettings,
    CatalogSettings,
    ClusterSettings,
    GrantSettings,
    JwtSettings,
    LimitSettings,
    LogSettings,
    RedisSettings,
    S3Settings,
    SealSettings,
    Settings,
    StoredSettings,
    TlsSettings,
    load_settings,
)

__all__ = [
    "AuthSettings",
    "CatalogSettings",
    "ClusterSettings",
    "GrantSettings",
    "JwtSettings",
    "LimitSettings",
    "LogSettings",
    "RedisSettings",
    "S3Settings",
    "SealSettings",
    "Settings",
    "StoredSettings",
    "TlsSettings",
    "load_settings",
]
