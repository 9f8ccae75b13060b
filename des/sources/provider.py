"""`MultiSourceFileProvider`: rows of all sources for the shards of one packer, and the files they point at.

A source that does not answer is left alone for a while and holds up no other; a row that cannot be
fetched fails alone, with its reason.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import structlog

from des.clock import Clock
from des.errors import DesError
from des.sources.config import PackerConfig
from des.sources.connector import SourceDatabaseConnector
from des.sources.memory_budget import MemoryBudget
from des.sources.objects import (
    CHUNK,
    ObjectDiffersError,
    ObjectForbiddenError,
    ObjectMissingError,
    ObjectTooLargeError,
    OpenObject,
    SourceObjects,
)
from des.sources.row_rules import key_fault
from des.sources.rows import ClaimedRow, ClaimOwner, FailReason, PackedRow, RowId, Settled

_log = structlog.get_logger(__name__)
T = TypeVar("T")

BACKOFF_FIRST_S: Final = 0.5
LONG_BYTES: Final = 2 * CHUNK
"""Memory that an object read in parts is counted with: one part on its way in, one on its way out."""


class RowFailedError(DesError):
    """A row that cannot be packed now, or ever, for a cause of its own."""

    def __init__(
        self,
        message: str,
        *,
        why: FailReason = FailReason.REFUSED,
        retry_after_s: float | None = None,
        **details: object,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **details)
        self.why = why
        """As the row's error column says it."""


@dataclass(frozen=True, slots=True)
class Source:
    """One source: its rows and its objects."""

    connector: SourceDatabaseConnector
    objects: SourceObjects


class _Health:
    """Whether a source answers, and when to ask again."""

    def __init__(self) -> None:
        self.failures = 0
        self.error = ""
        self.not_before = 0.0
        self.doubtful = False
        """A claim got no answer, so rows may be this process's without its knowing."""


class MultiSourceFileProvider:
    """Claims rows and opens their objects, with bounds on how many and how many bytes at once."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        config: PackerConfig,
        owner: ClaimOwner,
        shard_bits: int,
        clock: Clock,
        on_answer: Callable[[str, bool], None] = lambda _name, _answers: None,
        on_fetch: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """Work for one packer of a store with `2**shard_bits` shards.

        Args:
            sources: the enabled ones, by name.
            config: bounds and pauses.
            owner: the packer, as its claims name it.
            shard_bits: of the store.
            clock: for pauses.
            on_answer: told after every call whether the source's database answered.
            on_fetch: told how many seconds an object took to open: the whole of a short one.
        """
        self._sources = dict(sources)
        self._config = config
        self._owner = owner
        self._bits = shard_bits
        self._clock = clock
        self._on_answer = on_answer
        self._on_fetch = on_fetch
        self._health = {name: _Health() for name in sources}
        self._next_shard = dict.fromkeys(sources, 0)
        self._turn = asyncio.Semaphore(config.fetches)
        self.memory = MemoryBudget(int(config.fetch_bytes))

    # --- rows -------------------------------------------------------------------------------

    async def claim(self, shards: Sequence[int], *, limit: int) -> list[ClaimedRow]:
        """Claim up to `limit` rows of these shards, a fair part from each source that answers.

        Every call goes on with the shard after the last one that it came to.
        """
        names = self._answering()
        if not names or not shards or limit < 1:
            return []
        share = max(1, limit // len(names))
        found = await asyncio.gather(*(self._claim_one(name, shards, share) for name in names))
        return [row for rows in found for row in rows]

    async def _claim_one(self, name: str, shards: Sequence[int], limit: int) -> list[ClaimedRow]:
        connector = self._sources[name].connector
        limit = min(limit, connector.config.claim.batch_size)
        start = self._next_shard[name]
        turned = sorted(shards, key=lambda shard: (shard < start, shard))
        rows = await self._ask(
            name,
            lambda: connector.claim(turned, owner=self._owner, shard_bits=self._bits, limit=limit),
            claims=True,
        )
        if rows:
            self._next_shard[name] = rows[-1].shard + 1 if len(rows) >= limit else turned[0]
        return rows or []

    async def adopt(
        self,
        shards: Sequence[int],
        *,
        known: Mapping[str, Collection[RowId]],
        predecessors: bool,
        limit: int,
    ) -> tuple[list[ClaimedRow], bool]:
        """Take over claims that ran out or, with `predecessors`, that nobody who lives can still settle.

        Returns the rows, and whether every source was searched to its end.
        """
        rows: list[ClaimedRow] = []
        complete = True
        for name, source in self._sources.items():
            if name not in self._answering():
                complete = False
                continue

            ask = partial(
                source.connector.adopt,
                shards,
                owner=self._owner,
                shard_bits=self._bits,
                known=known.get(name, ()),
                limit=limit,
                predecessors=predecessors or self._health[name].doubtful,
            )
            found = await self._ask(name, ask, claims=True)
            if found is None or len(found) >= limit:
                complete = False
            else:
                self._health[name].doubtful = False
            rows += found or []
        return rows, complete

    async def renew(self, rows: Sequence[ClaimedRow]) -> None:
        """Put off the end of claims; a source that does not answer is asked again next time."""
        for name, own in _by_source(rows).items():
            renew = self._sources[name].connector.renew
            await self._ask(name, partial(renew, [row.id for row in own], owner=self._owner))

    async def mark_packed(self, name: str, packed: Sequence[PackedRow]) -> Settled | None:
        """Turn rows of one source to `packed`; None where it does not answer: repeat it."""
        connector = self._sources[name].connector
        return await self._ask(name, lambda: connector.mark_packed(packed, owner=self._owner))

    async def fail(self, row: ClaimedRow, reason: FailReason, text: str) -> bool:
        """Count a failure; where the source does not answer, the claim runs out instead.

        Returns whether the row is failed for good.
        """
        connector = self._sources[row.source].connector
        final = await self._ask(row.source, lambda: connector.fail(row, reason, text, owner=self._owner))
        return bool(final)

    async def release(self, rows: Sequence[ClaimedRow], *, wait_s: float) -> None:
        """Give rows back; nobody claims them again within `wait_s`."""
        for name, own in _by_source(rows).items():
            release = self._sources[name].connector.release
            await self._ask(name, partial(release, own, owner=self._owner, wait_s=wait_s))

    def timeout_s(self, source: str) -> float:
        """Return how long a claim lasts."""
        return self._sources[source].connector.config.claim.timeout_s

    def errors(self) -> dict[str, str]:
        """Return what the sources that do not answer now say."""
        return {name: health.error for name, health in self._health.items() if health.error}

    # --- objects ----------------------------------------------------------------------------

    @asynccontextmanager
    async def fetch(self, row: ClaimedRow) -> AsyncIterator[OpenObject]:
        """Open the row's object; its bytes count against the bound on memory while the block runs.

        A long object counts as being fetched all that time, a short one only until it is here.

        Raises:
            RowFailedError: the row or its object is at fault.
            ObjectsUnavailableError: the service is; the row may be tried again.
        """
        bucket, key = self.check(row)
        # A short object is read whole, a long one in parts; of unknown length, it may be either.
        needed = LONG_BYTES if row.size is None or row.size > CHUNK else max(row.size, 1)
        async with AsyncExitStack() as turn:
            await turn.enter_async_context(self._turn)
            async with self.memory.borrow(needed):
                begun = self._clock.monotonic()
                found = await self._open(row, bucket, key)
                try:
                    self._on_fetch(self._clock.monotonic() - begun)
                    if row.size is not None and found.size != row.size:
                        raise RowFailedError(
                            f"the object has {found.size} bytes, the row says {row.size}",
                            why=FailReason.CHANGED,
                        )
                    if found.size <= CHUNK:
                        await turn.aclose()
                    yield found
                finally:
                    await found.close()

    async def _open(self, row: ClaimedRow, bucket: str, key: str) -> OpenObject:
        source = self._sources[row.source]
        size_max = int(source.connector.config.objects.size_bytes_max)
        try:
            return await source.objects.open(bucket, key, etag=row.etag, size=row.size, size_max=size_max)
        except ObjectMissingError as error:
            raise RowFailedError(str(error), why=FailReason.MISSING) from error
        except ObjectForbiddenError as error:
            raise RowFailedError(str(error), why=FailReason.FORBIDDEN) from error
        except ObjectDiffersError as error:
            raise RowFailedError(str(error), why=FailReason.CHANGED) from error
        except ObjectTooLargeError as error:
            raise RowFailedError(str(error), why=FailReason.TOO_LARGE) from error

    def check(self, row: ClaimedRow) -> tuple[str, str]:
        """Return bucket and key of a row.

        Raises:
            RowFailedError: the key is none, or the bucket is not on the source's list.
        """
        fault = key_fault(row.key)
        if fault:
            raise RowFailedError(fault, why=FailReason.BAD_KEY)
        objects = self._sources[row.source].connector.config.objects
        if row.bucket not in objects.buckets:
            raise RowFailedError(
                f"bucket {str(row.bucket)[:80]!r} is not on the list {', '.join(objects.buckets)}",
                why=FailReason.BAD_BUCKET,
            )
        assert row.key is not None
        return str(row.bucket), row.key

    async def close(self) -> None:
        """Give all connections back."""
        for source in self._sources.values():
            await source.objects.close()
            await source.connector.close()

    # --- inside -----------------------------------------------------------------------------

    def _answering(self) -> list[str]:
        now = self._clock.monotonic()
        return [name for name, health in self._health.items() if health.not_before <= now]

    async def _ask(self, name: str, call: Callable[[], Awaitable[T]], *, claims: bool = False) -> T | None:
        """Return the source's answer, or None and leave it alone for a while."""
        health = self._health[name]
        try:
            answer = await call()
        except DesError as error:
            health.failures += 1
            health.error = str(error)
            health.doubtful = health.doubtful or claims
            pause_s = min(BACKOFF_FIRST_S * 2.0 ** min(health.failures, 30), self._config.backoff_max_s)
            health.not_before = self._clock.monotonic() + pause_s
            self._on_answer(name, False)
            _log.warning(
                "source does not answer",
                source=name,
                error=str(error),
                failures=health.failures,
                pause_s=pause_s,
            )
            return None
        health.failures = 0
        health.error = ""
        self._on_answer(name, True)
        return answer


def _by_source(rows: Sequence[ClaimedRow]) -> dict[str, list[ClaimedRow]]:
    found: dict[str, list[ClaimedRow]] = {}
    for row in rows:
        found.setdefault(row.source, []).append(row)
    return found
