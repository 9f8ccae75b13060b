"""The catalog: shard locks, containers and nodes in SQLite or PostgreSQL."""

from des.db.catalog import (
    Catalog,
    CatalogUnavailableError,
    CatalogVersionError,
    ContainerGeometry,
    ContainerRow,
    ContainerState,
    FencedError,
    ShardClaim,
    ShardLock,
    ShardRun,
    ShardTotals,
)
from des.db.connector import CatalogDamagedError, CatalogFullError, DesDbConnector
from des.db.rules import ContainerConflictError, KeyTakenError, UnknownContainerError
from des.db.sql_catalog import SqlCatalog

__all__ = [
    "Catalog",
    "CatalogDamagedError",
    "CatalogFullError",
    "CatalogUnavailableError",
    "CatalogVersionError",
    "ContainerConflictError",
    "ContainerGeometry",
    "ContainerRow",
    "ContainerState",
    "DesDbConnector",
    "FencedError",
    "KeyTakenError",
    "ShardClaim",
    "ShardLock",
    "ShardRun",
    "ShardTotals",
    "SqlCatalog",
    "UnknownContainerError",
]
