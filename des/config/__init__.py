"""Settings of a node."""

from des.config.object_stores import AzureSettings, GcsSettings, S3Settings, StoreSettings
from des.config.observing import HealthSettings, TracingSettings
from des.config.settings import (
    AuthSettings,
    CatalogSettings,
    ClusterSettings,
    GrantSettings,
    JwtSettings,
    LimitSettings,
    LogSettings,
    RedisSettings,
    SealSettings,
    Settings,
    StoredSettings,
    TlsSettings,
    load_settings,
)

__all__ = [
    "AuthSettings",
    "AzureSettings",
    "CatalogSettings",
    "ClusterSettings",
    "GcsSettings",
    "GrantSettings",
    "HealthSettings",
    "JwtSettings",
    "LimitSettings",
    "LogSettings",
    "RedisSettings",
    "S3Settings",
    "SealSettings",
    "Settings",
    "StoreSettings",
    "StoredSettings",
    "TlsSettings",
    "TracingSettings",
    "load_settings",
]
