"""Source databases: rows that point at objects, claimed, fetched, marked."""

from des.sources.config import SourceConfig, SourcesConfig
from des.sources.config_file import load_sources, variables_in
from des.sources.connector import SourceDatabaseConnector
from des.sources.errors import (
    RowRefusedError,
    SourceConfigError,
    SourceRefusedError,
    SourceSchemaError,
    SourceUnavailableError,
)
from des.sources.rows import ClaimedRow, ClaimOwner, FailReason, PackedRow, StatusCounts

__all__ = [
    "ClaimOwner",
    "ClaimedRow",
    "FailReason",
    "PackedRow",
    "RowRefusedError",
    "SourceConfig",
    "SourceConfigError",
    "SourceDatabaseConnector",
    "SourceRefusedError",
    "SourceSchemaError",
    "SourceUnavailableError",
    "SourcesConfig",
    "StatusCounts",
    "load_sources",
    "variables_in",
]
