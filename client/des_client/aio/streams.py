"""Several asyncio streams at once: a task reads each, and one place hands out what has come."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import grpc
from grpc import aio

from des_client.aio.outcome import Ended, Outcome
from des_client.errors import DesClientError, FailedCall

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class Event(NamedTuple, Generic[ResponseT]):
    """What one stream did."""

    stream: int
    message: ResponseT | None
    """None when the stream is over."""
    error: DesClientError | None
    """Why it is over; None at its regular end."""


class _Stream(Generic[ResponseT]):
    def __init__(self, call: Any) -> None:
        self.call = call
        self.outcome = Outcome(call)
        self.messages: deque[ResponseT] = deque()
        self.over = False
        self.error: DesClientError | None = None
        self.room = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Streams(Generic[RequestT, ResponseT]):
    """Open streams by number, used by one task."""

    def __init__(self, ahead: int | None, error: Callable[[FailedCall], DesClientError]) -> None:
        """Make an empty set.

        Args:
            ahead: messages of a stream that may wait here; None for any number.
            error: makes the client's error of gRPC's.
        """
        self._ahead = ahead
        self._error = error
        self._changed = asyncio.Event()
        self._streams: dict[int, _Stream[ResponseT]] = {}
        self._serial = 0
        self._woken = False

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[int]:
        return iter(self._streams)

    def next_number(self) -> int:
        """Return the number of the stream to be opened next."""
        return self._serial

    def wake(self) -> None:
        """Let `next` return at once: something else has happened."""
        self._woken = True
        self._changed.set()

    def read(self, method: Any, request: RequestT, metadata: Any) -> int:
        """Begin a stream of answers; return its number."""
        return self._start(method(request, metadata=metadata))

    def write(self, method: Any, metadata: Any) -> int:
        """Begin a stream in both directions; return its number."""
        return self._start(method(metadata=metadata))

    def _start(self, call: Any) -> int:
        number = self._serial
        self._serial += 1
        stream: _Stream[ResponseT] = _Stream(call)
        self._streams[number] = stream
        stream.task = asyncio.create_task(self._run(stream))
        return number

    async def send(self, number: int, message: RequestT) -> None:
        """Hand a message to a stream; one that is lost says so in its last event."""
        # Its reader finds out why.
        try:
            await self._streams[number].call.write(message)
        except (aio.AioRpcError, asyncio.InvalidStateError, aio.UsageError):
            return
        except asyncio.CancelledError:
            # The call was cancelled below this task, by closing the channel; or the task itself.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise

    async def next(self, among: Sequence[int] | None, timeout_s: float) -> Event[ResponseT] | None:
        """Return what a stream did, the longest waiting of `among` first; None when time is over."""
        if (event := self._poll(among)) is not None or timeout_s <= 0:
            return event
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while event is None and not self._woken:
                    self._changed.clear()
                    await self._changed.wait()
                    event = self._poll(among)
        self._woken = False
        return event

    def _poll(self, among: Sequence[int] | None) -> Event[ResponseT] | None:
        for number in self._streams if among is None else among:
            stream = self._streams[number]
            if stream.messages:
                message = stream.messages.popleft()
                stream.room.set()
                # Last in turn next time.
                self._streams[number] = self._streams.pop(number)
                return Event(number, message, None)
            if stream.over:
                del self._streams[number]
                return Event(number, None, stream.error)
        return None

    async def close(self) -> None:
        """Give every stream up; returns when no task of theirs runs any more."""
        tasks = [stream.task for stream in self._streams.values() if stream.task is not None]
        for stream in self._streams.values():
            _end(stream)
        self._streams.clear()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, stream: _Stream[ResponseT]) -> None:
        call = stream.call
        error: DesClientError | None = None
        try:
            while (message := await call.read()) is not aio.EOF:
                while self._ahead is not None and len(stream.messages) >= self._ahead:
                    stream.room.clear()
                    await stream.room.wait()
                stream.messages.append(message)
                self._changed.set()
        except aio.AioRpcError as failed:
            error = self._error(await stream.outcome.of(failed))
        except asyncio.CancelledError:
            if stream.task is not None and stream.task.cancelling():
                raise
            # The channel was closed below the call.
            error = self._error(Ended(grpc.StatusCode.CANCELLED, "the call was cancelled", ()))
        finally:
            stream.over = True
            stream.error = error
            self._changed.set()


def _end(stream: _Stream[Any]) -> None:
    stream.call.cancel()
    if stream.task is not None:
        stream.task.cancel()
