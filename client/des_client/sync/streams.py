"""Several blocking streams at once: a thread reads each, and one place hands out what has come."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import grpc

from des_client.errors import DesClientError

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
        self.messages: deque[ResponseT] = deque()
        self.over = False
        self.error: DesClientError | None = None
        self.requests: queue.SimpleQueue[Any] | None = None


class Streams(Generic[RequestT, ResponseT]):
    """Open streams by number. One thread uses this; others only read for it."""

    def __init__(self, ahead: int | None, error: Callable[[grpc.RpcError], DesClientError]) -> None:
        """Make an empty set.

        Args:
            ahead: messages of a stream that may wait here; None for any number.
            error: makes the client's error of gRPC's.
        """
        self._ahead = ahead
        self._error = error
        self._changed = threading.Condition()
        self._streams: dict[int, _Stream[ResponseT]] = {}
        self._closed = False
        self._serial = 0

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[int]:
        return iter(self._streams)

    def next_number(self) -> int:
        """Return the number of the stream to be opened next."""
        return self._serial

    def wake(self) -> None:
        """Nothing: the one thread that waits here is the one that would call this."""

    def read(self, method: Any, request: RequestT, metadata: Any) -> int:
        """Begin a stream of answers; return its number."""
        return self._start(_Stream(method(request, metadata=metadata)))

    def write(self, method: Any, metadata: Any) -> int:
        """Begin a stream in both directions; return its number."""
        requests: queue.SimpleQueue[RequestT | None] = queue.SimpleQueue()
        stream: _Stream[ResponseT] = _Stream(method(iter(requests.get, None), metadata=metadata))
        stream.requests = requests
        return self._start(stream)

    def _start(self, stream: _Stream[ResponseT]) -> int:
        number = self._serial
        self._serial += 1
        self._streams[number] = stream
        threading.Thread(target=self._run, args=(stream,), name="des-client-stream", daemon=True).start()
        return number

    def send(self, number: int, message: RequestT) -> None:
        """Hand a message to a stream; one that is lost says so in its last event."""
        requests = self._streams[number].requests
        if requests is not None:
            requests.put(message)

    def next(self, among: Sequence[int] | None, timeout_s: float) -> Event[ResponseT] | None:
        """Return what a stream did, the longest waiting of `among` first; None when time is over."""
        ends_at = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for number in self._streams if among is None else among:
                    stream = self._streams[number]
                    if stream.messages:
                        message = stream.messages.popleft()
                        self._changed.notify_all()
                        # Last in turn next time.
                        self._streams[number] = self._streams.pop(number)
                        return Event(number, message, None)
                    if stream.over:
                        del self._streams[number]
                        return Event(number, None, stream.error)
                left_s = ends_at - time.monotonic()
                if left_s <= 0:
                    return None
                self._changed.wait(left_s)

    def close(self) -> None:
        """Give every stream up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for stream in self._streams.values():
            _end(stream)
        self._streams.clear()

    def _run(self, stream: _Stream[ResponseT]) -> None:
        error: DesClientError | None = None
        try:
            for message in stream.call:
                with self._changed:
                    while self._ahead is not None and len(stream.messages) >= self._ahead:
                        if self._closed or stream.over:
                            return
                        self._changed.wait()
                    stream.messages.append(message)
                    self._changed.notify_all()
        except grpc.RpcError as failed:
            error = self._error(failed)
        with self._changed:
            stream.over = True
            stream.error = error
            self._changed.notify_all()


def _end(stream: _Stream[Any]) -> None:
    if stream.requests is not None:
        stream.requests.put(None)
    stream.call.cancel()
