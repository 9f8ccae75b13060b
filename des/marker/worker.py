"""`FileMarkerWorker`: finds eligible rows and writes name, hash, shard and status into them.

Any number of markers may work side by side: rows are chosen under the database's locks, so each is marked
once. Names come from a generator whose node id no other live process has.
"""

import asyncio
import math
from collections.abc import Mapping
from typing import Final

import structlog

from des.clock import Clock
from des.errors import DesError
from des.monitoring.ingest_metrics import MarkerMetrics
from des.naming import SnowflakeNameGenerator
from des.sources import FailReason, RowRefusedError, SourceDatabaseConnector, StatusCounts
from des.sources.config import MarkerConfig
from des.sources.rows import MarkedBatch, RowId

_log = structlog.get_logger(__name__)

BACKOFF_FIRST_S: Final = 0.5
PASSED_MAX: Final = 1000
"""Rows that take neither a name nor a reason, which are remembered and left out."""


class SourceMarker:
    """Marks the rows of one source."""

    def __init__(
        self,
        connector: SourceDatabaseConnector,
        *,
        generator: SnowflakeNameGenerator,
        shard_bits: int,
        config: MarkerConfig,
        clock: Clock,
        metrics: MarkerMetrics,
    ) -> None:
        self.connector = connector
        self._generator = generator
        self._shard_bits = shard_bits
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._passed: list[RowId] = []
        self._failures = 0
        self.marked = 0
        """Rows marked by this process."""
        self.failed = 0
        """Rows it found hopeless."""
        self.error = ""
        """What the last round failed with; empty when it did not."""

    async def step(self) -> MarkedBatch:
        """Mark one batch.

        Raises:
            DesError: nothing was marked; the round may be repeated.
        """
        name, mark = self.connector.name, self.connector.config.mark
        size = mark.batch_size
        if mark.rate_per_s is not None:
            size = min(size, max(1, math.ceil(mark.rate_per_s)))
        try:
            names = await self._generator.next_many(size, self.connector.config.name_prefix)
            try:
                batch = await self.connector.mark_batch(
                    names, shard_bits=self._shard_bits, passed=self._passed
                )
            except RowRefusedError as error:
                _log.warning(
                    "a batch is refused, its rows are marked one by one", source=name, error=str(error)
                )
                batch = await self._one_by_one(names)
        except DesError as error:
            self._failures += 1
            self.error = str(error)
            self._metrics.error(name)
            raise
        self._failures = 0
        self.error = ""
        self.marked += batch.marked
        self.failed += batch.failed
        self._metrics.round(name, marked=batch.marked, failed=batch.failed)
        return batch

    async def run(self, stopping: asyncio.Event) -> None:
        """Mark until told to stop; a batch under way is finished. Failures are shown, waited out, retried."""
        rate = self.connector.config.mark.rate_per_s
        while not stopping.is_set():
            begun = self._clock.monotonic()
            try:
                batch = await self.step()
            except DesError as error:
                pause_s = min(BACKOFF_FIRST_S * 2.0 ** min(self._failures, 30), self._config.backoff_max_s)
                _log.warning(
                    "not marked, will be tried again",
                    source=self.connector.name,
                    error=str(error),
                    failures=self._failures,
                    pause_s=pause_s,
                )
            else:
                pause_s = self._config.idle_s if not batch.found else 0.0
                if rate is not None and batch.marked:
                    pause_s = max(0.0, batch.marked / rate - (self._clock.monotonic() - begun))
            if pause_s:
                await _pause(self._clock, pause_s, stopping)

    async def _one_by_one(self, names: list[str]) -> MarkedBatch:
        """Find the rows that the table refuses, so that they fail alone."""
        found = marked = failed = 0
        for row_id, name in zip(
            await self.connector.eligible_ids(len(names), passed=self._passed), names, strict=False
        ):
            try:
                one = await self.connector.mark_batch([name], shard_bits=self._shard_bits, only=row_id)
                marked += one.marked
                failed += one.failed
            except RowRefusedError as error:
                failed += await self._refuse(row_id, str(error))
            found += 1
        return MarkedBatch(found=found, marked=marked, failed=failed)

    async def _refuse(self, row_id: RowId, text: str) -> int:
        try:
            await self.connector.fail_unclaimed(row_id, FailReason.REFUSED, text)
        except RowRefusedError as error:
            _log.error(
                "a row takes neither name nor reason, it is left out",
                source=self.connector.name,
                row=str(row_id),
                error=str(error),
            )
            self._passed = [*self._passed, row_id][-PASSED_MAX:]
            return 0
        return 1


class FileMarkerWorker:
    """Marks the rows of all enabled sources; one that does not answer holds up no other."""

    def __init__(
        self,
        connectors: Mapping[str, SourceDatabaseConnector],
        *,
        generator: SnowflakeNameGenerator,
        shard_bits: int,
        config: MarkerConfig,
        clock: Clock,
        metrics: MarkerMetrics,
    ) -> None:
        """Work for a store with `2**shard_bits` shards; `generator` is this process's alone."""
        self._stopping = asyncio.Event()
        self.sources = {
            name: SourceMarker(
                connector,
                generator=generator,
                shard_bits=shard_bits,
                config=config,
                clock=clock,
                metrics=metrics,
            )
            for name, connector in connectors.items()
        }

    async def step(self) -> int:
        """Mark one batch of every source; return how many rows were found.

        Raises:
            DesError: the first failure; every other source was worked on all the same.
        """
        results = await asyncio.gather(
            *(source.step() for source in self.sources.values()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return sum(result.found for result in results if isinstance(result, MarkedBatch))

    async def once(self) -> int:
        """Mark until no source has an eligible row; return how many were marked. Same errors as `step`."""
        before = sum(source.marked for source in self.sources.values())
        while await self.step():
            pass
        return sum(source.marked for source in self.sources.values()) - before

    async def run(self) -> None:
        """Mark until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            for source in self.sources.values():
                tasks.create_task(source.run(self._stopping))

    def stop(self) -> None:
        """Begin no further batch; `run` returns once those under way are done."""
        self._stopping.set()

    async def status(self) -> dict[str, StatusCounts]:
        """Count every source's rows by status. Same errors as `step`."""
        return {name: await source.connector.counts() for name, source in self.sources.items()}

    def errors(self) -> dict[str, str]:
        """Return what the sources that fail now fail with."""
        return {name: source.error for name, source in self.sources.items() if source.error}


async def _pause(clock: Clock, seconds: float, stopping: asyncio.Event) -> None:
    """Sleep, but not past `stopping`."""
    sleeping = asyncio.ensure_future(clock.sleep(seconds))
    waiting = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([sleeping, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeping.cancel()
        waiting.cancel()
