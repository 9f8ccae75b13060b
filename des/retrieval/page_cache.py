"""The cache of index pages that a node's settings ask for."""

from des.clock import Clock
from des.config import Settings
from des.core.index_cache import IndexCache, InMemoryIndexCache
from des.errors import InvalidInputError


class MissingRedisError(InvalidInputError):
    """The settings ask for Redis, and its library is not installed."""


def open_page_cache(settings: Settings, *, clock: Clock | None = None) -> IndexCache:
    """Return a node's cache of pages: in memory and, where settings say so, in Redis behind it.

    Redis is not asked for anything yet: a node starts, and serves, without it.

    Raises:
        MissingRedisError: the library for Redis is not installed.
    """
    memory = InMemoryIndexCache(int(settings.index_cache_bytes))
    if settings.index_cache == "memory":
        return memory
    try:
        from des.core.redis_cache import RedisIndexCache  # noqa: PLC0415  optional dependency
    except ImportError as error:
        raise MissingRedisError("index_cache redis needs redis: pip install 'des-store[redis]'") from error
    redis = settings.redis
    return RedisIndexCache.from_url(
        redis.url.get_secret_value(),
        memory=memory,
        ttl_s=redis.ttl_s,
        budget_s=redis.budget_s,
        connections=redis.connections,
        clock=clock,
    )
