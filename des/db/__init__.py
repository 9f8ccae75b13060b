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
from des.db.rows import LogSegmentId, LogSegmentRow, LogSegmentState, OpenContainer, Sighting, Tombstone
from des.db.rules import (
    ContainerConflictError,
    KeyTakenError,
    LogSegmentConflictError,
    UnknownContainerError,
)
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
    "LogSegmentConflictError",
    "LogSegmentId",
    "LogSegmentRow",
    "LogSegmentState",
    "OpenContainer",
    "ShardClaim",
    "ShardLock",
    "ShardRun",
    "ShardTotals",
    "Sighting",
    "SqlCatalog",
    "Tombstone",
    "UnknownContainerError",
]
