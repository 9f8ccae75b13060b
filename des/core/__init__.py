"""Containers as things to write and to read."""

from typing import TYPE_CHECKING, Any

from des.core.container_index import ContainerIndex
from des.core.index_cache import IndexCache, InMemoryIndexCache
from des.core.reader import DesReader
from des.core.s3_reader import S3DesReader
from des.core.sync_reader import SyncS3DesReader
from des.core.writer import DesWriter

if TYPE_CHECKING:
    from des.core.redis_cache import RedisIndexCache

__all__ = [
    "ContainerIndex",
    "DesReader",
    "DesWriter",
    "InMemoryIndexCache",
    "IndexCache",
    "RedisIndexCache",
    "S3DesReader",
    "SyncS3DesReader",
]


def __getattr__(name: str) -> Any:
    """Import `RedisIndexCache` where it is used: it needs the extra `redis`."""
    if name == "RedisIndexCache":
        from des.core.redis_cache import RedisIndexCache  # noqa: PLC0415  optional dependency

        return RedisIndexCache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
