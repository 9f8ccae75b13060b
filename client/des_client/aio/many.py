"""Drives the plans of `put_many` and `get_many` over streams."""

import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from typing import Any, Final

from des_client import convert, write_items
from des_client.aio.files import AsyncFiles
from des_client.aio.puller import Puller
from des_client.aio.streams import Streams
from des_client.calls import silent
from des_client.errors import DesClientError
from des_client.items import BatchProgress, GetItem, GetOutcome, PutItem, PutOutcome
from des_client.read_many import ReadMany
from des_client.retry import Attempts
from des_client.road import Road
from des_client.source import Source
from des_client.write_many import WriteMany

OnBatchProgress = Callable[[BatchProgress], None]
"""Told how far a call over many files is, after every message. What it raises ends the call."""

READ_AHEAD: Final = 4
"""Messages of one stream, about 1 MiB each, that may wait for the reader of `get_many`."""
READ_STREAMS: Final = 2
"""Requests under way per connection: the server looks for the next files while these are read."""
_NEVER_S: Final = 3600.0


class AsyncMany(AsyncFiles):
    """The streams behind the calls over many files."""

    async def _write_many(
        self,
        plan: WriteMany,
        items: Iterable[Any] | AsyncIterable[Any],
        timeout_s: float,
        prefix: str,
        on_progress: OnBatchProgress | None,
    ) -> AsyncGenerator[list[PutOutcome], None]:
        streams = self._streams(None)
        ways: dict[int, Road] = {}
        attempts = Attempts(self._retry, random.random)
        puller = Puller(
            items,
            lambda item: (item, write_items.load(item, plan.small_bytes)),
            lambda pair: len(pair[1]) if isinstance(pair[1], bytes) else 0,
            streams.wake,
        )
        now = heard_at = time.monotonic()
        begin_at = 0.0
        """After a lost stream: when the next may be begun. 0 once a message has come."""
        try:
            while not (puller.over and plan.idle):
                while plan.wants and not plan.full and not plan.lingers(now):
                    # Before pulling: a source that was slow has waited long enough already.
                    began = time.monotonic()
                    taken = puller.take()
                    if taken is None:
                        break
                    for item, content in taken:
                        alone = plan.add(item, content, began)
                        if alone is not None:
                            await self._put_alone(plan, item, *alone, timeout_s, prefix)
                            heard_at = time.monotonic()
                    now = time.monotonic()
                now = time.monotonic()
                flush = puller.over or plan.lingers(now)
                while now >= begin_at and plan.sends(now, flush=flush):
                    number = self._write_stream(streams, plan, ways)
                    message = plan.take(number, now, flush=flush)
                    if message is None:
                        break
                    if not plan.owed and not begin_at:
                        # Nobody was silent while nothing was asked.
                        heard_at = now
                    await streams.send(number, message)
                    now = time.monotonic()
                if plan.owed and now - heard_at > timeout_s:
                    raise silent("put_many", plan.progress.done_bytes)
                busy = plan.ready or (plan.wants and puller.ready) or (puller.over and plan.idle)
                wait_s = 0.0
                if not busy:
                    wakes = [heard_at + timeout_s if plan.owed else now + _NEVER_S]
                    wakes += [at for at in (begin_at, plan.wakes_at, plan.lingers_at) if at > now]
                    wait_s = max(0.001, min(wakes) - now)
                event = await streams.next(None, wait_s)
                now = time.monotonic()
                while event is not None:
                    if event.message is not None:
                        heard_at, begin_at = now, 0.0
                        attempts.progressed()
                        plan.accept(event.stream, event.message, now)
                        self._went(ways[event.stream])
                    else:
                        self._ended(ways.pop(event.stream), event.error)
                        if plan.broke(event.stream) or event.error is not None:
                            error = event.error or silent("put_many", plan.progress.done_bytes)
                            begin_at = now + self._wait_s(attempts, error, heard_at + timeout_s - now)
                    event = await streams.next(None, 0)
                ready = plan.drain()
                if on_progress is not None and (plan.begins_to_wait() or ready):
                    on_progress(plan.progress)
                if ready:
                    yield ready
        finally:
            await puller.close()
            await streams.close()

    def _write_stream(self, streams: Streams[Any, Any], plan: WriteMany, ways: dict[int, Road]) -> int:
        """Return the stream with the least to do; there is one per connection."""
        if len(streams) < len(self._channels):
            way = Road("")
            number = streams.write(self._channel(way).files.BatchWriteFiles, self._metadata)
            ways[number] = way
            return number
        return min(streams, key=plan.load)

    async def _put_alone(
        self, plan: WriteMany, item: Any, index: int, source: Source, timeout_s: float, prefix: str
    ) -> None:
        """Put a file that does not fit a message on a stream of its own."""
        known = item if isinstance(item, PutItem) else None
        size = source.size or 0
        try:
            options = write_items.options(known, prefix)
            request_id = options["request_id"] or (None if options["name"] else plan.new_id())
            options["request_id"] = request_id
            spec = convert.file_spec(durability=plan.durability, **options)
            answer = await self._put_source(spec, source, timeout_s, request_id)
            result = convert.put_result(answer)
        except Exception as failed:  # noqa: BLE001  the item's own failure; the others go on
            self._raise_if_over(failed)
            plan.finish(index, known, None, failed, 0)
        else:
            plan.finish(index, known, result, None, result.file.size_bytes or size)

    async def _read_many(
        self,
        plan: ReadMany,
        items: Iterable[str | GetItem] | AsyncIterable[str | GetItem],
        timeout_s: float,
        on_progress: OnBatchProgress | None,
    ) -> AsyncGenerator[list[GetOutcome], None]:
        streams = self._streams(READ_AHEAD)
        ways: dict[int, Road] = {}
        attempts = Attempts(self._retry, random.random)
        puller = Puller(items, lambda item: item, lambda _: 0, streams.wake)
        streams_max = READ_STREAMS * max(1, len(self._channels))
        now = heard_at = time.monotonic()
        begin_at = 0.0
        """After a lost stream: when the next may be begun. 0 once a message has come."""
        try:
            while not (puller.over and plan.idle):
                while len(streams) < streams_max and not plan.full and not plan.lingers(now):
                    began = time.monotonic()
                    taken = puller.take()
                    if taken is None:
                        break
                    for item in taken:
                        plan.add(item, began)
                    now = time.monotonic()
                now = time.monotonic()
                flush = puller.over or plan.lingers(now)
                while now >= begin_at and len(streams) < streams_max and plan.asks(now, flush=flush):
                    request = plan.request(streams.next_number(), now)
                    if request is None:
                        break
                    if not streams and not begin_at:
                        heard_at = now
                    way = Road("", is_read=True)
                    number = streams.read(self._channel(way).files.BatchReadFiles, request, self._metadata)
                    ways[number] = way
                if (head := plan.head()) is not None:
                    await self._fetch_head(plan, head, timeout_s)
                    heard_at = time.monotonic()
                if streams and now - heard_at > timeout_s:
                    raise silent("get_many", plan.progress.done_bytes)
                pulls = len(streams) < streams_max and puller.ready
                busy = plan.ready or pulls or (puller.over and plan.idle)
                wait_s = 0.0
                if not busy:
                    wakes = [heard_at + timeout_s if streams else now + _NEVER_S]
                    wakes += [at for at in (begin_at, plan.wakes_at, plan.lingers_at) if at > now]
                    wait_s = max(0.001, min(wakes) - now)
                event = await streams.next(plan.next_streams(), wait_s)
                now = time.monotonic()
                if event is not None:
                    if event.message is not None:
                        heard_at, begin_at = now, 0.0
                        plan.accept(event.stream, event.message, now)
                        self._went(ways[event.stream])
                    elif (error := plan.ended(event.stream, event.error)) is None:
                        ways.pop(event.stream)
                        attempts.progressed()
                    else:
                        self._ended(ways.pop(event.stream), event.error)
                        if plan.broke(event.stream, now):
                            attempts.progressed()
                        begin_at = now + self._wait_s(attempts, error, heard_at + timeout_s - now)
                if ready := plan.drain():
                    if on_progress is not None:
                        on_progress(plan.progress)
                    yield ready
                    # The caller's own time is no silence of the server's.
                    now = heard_at = time.monotonic()
        finally:
            await puller.close()
            await streams.close()

    async def _fetch_head(self, plan: ReadMany, head: GetItem, timeout_s: float) -> None:
        """Read the file that too many others wait for."""
        data: bytes | None = None
        error: Exception | None = None
        try:
            data = await self.get(head.name, offset=head.offset, limit=head.limit, timeout_s=timeout_s)
        except DesClientError as failed:
            self._raise_if_over(failed)
            error = failed
        plan.fetched(data, error)

    def _went(self, way: Road) -> None:
        """Note that a stream brought something."""
        self._reached = True
        if self._roads is not None:
            self._roads.worked(way)

    def _ended(self, way: Road, error: DesClientError | None) -> None:
        """Note why a stream is over, so that the next one takes another connection where this one is away."""
        if error is not None:
            self._strayed(way, error)

    def _wait_s(self, attempts: Attempts, error: DesClientError, left_s: float) -> float:
        """Return how long to wait before a lost stream is begun again.

        Raises `error` when it is final, or would outlast a full timeout without any answer.
        """
        wait_s = attempts.wait_s(error, left_s, reached=self._has_reached(error))
        if wait_s is None:
            error.attempts = attempts.made
            raise error
        return wait_s
