"""Pages of HASHPAGES, and groups of INDEX and META, shared by many processes through Redis.

Redis can only make reads cheaper: slow, broken, full or lying, it costs at most the time budget.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable
from typing import Final, Self

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from des.clock import Clock, SystemClock
from des.core.index_cache import InMemoryIndexCache, LoadPages, PageKey, Pages, ValidPage
from des.core.single_flight import SingleFlight

TTL_S: Final = 24 * 3600
"""How long Redis keeps a page. Pages never change; this bounds what deleted containers leave."""
BUDGET_S: Final = 0.05
"""Longest wait for one answer: more than Redis needs, less than the object store does."""
FAILURES_MAX: Final = 5
"""Failures in a row after which Redis is left alone."""
PAUSE_S: Final = 5.0
"""For how long; then one call tries again."""
CONNECTIONS: Final = 16
"""Connections to Redis at most."""
CLOSE_S: Final = 2.0
"""Longest wait for connections to be given back."""
WRITES_MAX: Final = 64
"""Writes under way at once; pages beyond are not offered to Redis."""


class RedisIndexCache:
    """Keeps pages in Redis, and those in use in memory before it."""

    def __init__(
        self,
        redis: Redis,
        *,
        memory: InMemoryIndexCache | None = None,
        prefix: str = "des:",
        ttl_s: int = TTL_S,
        budget_s: float = BUDGET_S,
        clock: Clock | None = None,
    ) -> None:
        """Use a connection that this object then closes.

        Args:
            redis: made without `decode_responses`.
            memory: asked first; None to ask Redis each time.
            prefix: of every key.
            ttl_s: how long Redis keeps a page.
            budget_s: longest wait for one answer.
            clock: tells when the pause is over.
        """
        self.hits = 0
        """Pages that Redis had."""
        self.misses = 0
        """Pages that it had not, or not right, or not in time."""
        self._redis = redis
        self.memory: Final = memory
        """Asked before Redis; None where there is none."""
        self._prefix = prefix
        self._ttl_s = ttl_s
        self._budget_s = budget_s
        self._clock = clock or SystemClock()
        self._flights: SingleFlight[Pages] = SingleFlight()
        self._failures = 0
        self._closed_until_s = 0.0
        self._writes: set[asyncio.Task[None]] = set()

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        memory: InMemoryIndexCache | None = None,
        ttl_s: int = TTL_S,
        budget_s: float = BUDGET_S,
        connections: int = CONNECTIONS,
        clock: Clock | None = None,
    ) -> Self:
        """Return a cache over the Redis at `url` (`redis://`, `rediss://` or `unix://`).

        Args as of the class; who finds all `connections` in use waits for one within the budget.
        """
        pool = BlockingConnectionPool.from_url(
            url, max_connections=connections, timeout=budget_s, decode_responses=False
        )
        return cls(Redis.from_pool(pool), memory=memory, ttl_s=ttl_s, budget_s=budget_s, clock=clock)

    @property
    def is_open(self) -> bool:
        """Whether Redis is asked now, rather than left alone after failures."""
        return self._failures < FAILURES_MAX or self._clock.monotonic() >= self._closed_until_s

    async def fetch(self, key: PageKey, load: LoadPages, valid: ValidPage) -> bytes:
        """Return the page of `key`: from memory, from Redis, or by `load`."""
        if self.memory is not None:
            return await self.memory.fetch(key, lambda: self._fetch(key, load, valid), valid)
        return (await self._flights.run(key, lambda: self._fetch(key, load, valid)))[key]

    def peek(self, key: PageKey) -> bytes | None:
        """Return the page of `key` if this process's memory has it; Redis is not asked."""
        return None if self.memory is None else self.memory.peek(key)

    async def close(self) -> None:
        """Finish the writes under way and give the connection back."""
        await asyncio.gather(*self._writes, return_exceptions=True)
        if self.memory is not None:
            await self.memory.close()
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._redis.aclose()

    async def _fetch(self, key: PageKey, load: LoadPages, valid: ValidPage) -> Pages:
        found = await self._within_budget(self._redis.get(self._name(key))) if self.is_open else None
        if isinstance(found, bytes) and valid(key, found):
            self.hits += 1
            return {key: found}
        self.misses += 1
        pages = await load()
        if self.is_open and len(self._writes) < WRITES_MAX:
            write = asyncio.create_task(self._store(pages))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)
        return pages

    async def _store(self, pages: Pages) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for key, page in pages.items():
            pipeline.set(self._name(key), page, ex=self._ttl_s)
        await self._within_budget(pipeline.execute())

    async def _within_budget(self, answer: Awaitable[object]) -> object:
        """Return an answer, None when there is none in time; count failures."""
        try:
            async with asyncio.timeout(self._budget_s):
                found = await answer
        except (RedisError, OSError, TimeoutError):
            self._failures += 1
            self._closed_until_s = self._clock.monotonic() + PAUSE_S
            return None
        self._failures = 0
        return found

    def _name(self, key: PageKey) -> str:
        # An etag is the store's text, of any length.
        etag = hashlib.sha256(key.etag.encode()).hexdigest()[:16]
        return f"{self._prefix}{key.container.hex()}:{etag}:{key.kind}:{key.page}"
