"""What the blocking client does on the wire: channels, calls, retries, streams.

`des_client.aio.transport` is its asyncio twin; what both clients offer is written once, in the other
modules of that package (ADR 0010).
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from des_proto.v1 import (
    system_service_pb2,
)

from des_client import calls, convert, upload
from des_client.channels import Endpoints
from des_client.errors import (
    ClientClosed,
    DesClientError,
    from_call,
)
from des_client.retry import NO_RETRY, Attempts, RetryConfig
from des_client.road import Road
from des_client.roads import Roads
from des_client.sync.channel import Channel
from des_client.sync.streams import Streams
from des_client.sync.watchdog import Watchdog
from des_client.types import ServerInfo

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class Transport:
    """The connections of a `DesClient`, and how it calls."""

    def __init__(
        self,
        config: Endpoints,
        *,
        timeout_s: float,
        retry: RetryConfig | None,
        verify: bool,
        follow: bool,
    ) -> None:
        self._endpoints = config
        self._timeout_s = calls.check_timeout(timeout_s)
        self._retry = retry or NO_RETRY
        self._verify = verify
        self._channels = [Channel(one, config) for one in config.targets]
        count = len(config.targets)
        self._roads = Roads(count, follow=follow, clock=time.monotonic) if count > 1 else None
        self._watchdog = Watchdog()
        self._reached = False
        """Whether any server has answered."""
        self._closing = threading.Event()
        self._server_info: ServerInfo | None = None
        self._chunk_bytes = upload.CHUNK_BYTES_DEFAULT

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return self._endpoints.metadata

    def _enter(self) -> None:
        pass

    def _close(self) -> None:
        self._closing.set()
        self._watchdog.close()
        for one in self._channels:
            one.channel.close()

    def _ask_server_info(self, timeout_s: float, retry: RetryConfig | None = None) -> ServerInfo:
        answer = self._call(
            lambda channel: channel.system.GetServerInfo,
            system_service_pb2.GetServerInfoRequest(),
            timeout_s,
            retry=retry,
        )
        info = convert.server_info(answer)
        self._chunk_bytes = upload.chunk_bytes(info.limits)
        self._server_info = info
        return info

    def _learn_limits(self, timeout_s: float) -> None:
        """Size messages by the server's limits; one that does not tell them soon gets the defaults."""
        if self._server_info is None:
            # Only a fact about speed: who does not answer now is asked again by the next large call.
            with contextlib.suppress(DesClientError):
                self._ask_server_info(min(timeout_s / 4, calls.LIMITS_TIMEOUT_S), NO_RETRY)

    def _road(self, name: str = "", *, is_read: bool = False) -> Road | None:
        """Return the way of a call about one file; None where there is only one."""
        return None if self._roads is None else Road(name, is_read=is_read)

    def _channel(self, road: Road | None = None) -> Channel:
        if self._closing.is_set():
            raise ClientClosed("the client is closed")
        if self._roads is None:
            return self._channels[0]
        return self._channels[self._roads.choose(road or Road(""))]

    def _headers(self, road: Road | None) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call whose connection is chosen."""
        if road is None or self._roads is None:
            return self._metadata
        return (*self._metadata, *self._roads.headers(road))

    def _strayed(self, road: Road | None, error: DesClientError, failed: grpc.RpcError | None = None) -> None:
        """Note that an attempt failed, and what its server said with that."""
        if road is not None and self._roads is not None:
            self._roads.failed(road, error, failed.trailing_metadata() if failed is not None else ())

    def _call(
        self,
        method: "Callable[[Channel], grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]]",
        request: RequestT,
        timeout_s: float,
        request_id: str | None = None,
        *,
        retry: RetryConfig | None = None,
        road: Road | None = None,
        repeated: Callable[[], None] | None = None,
    ) -> ResponseT:
        """Make a call of one request and one answer, as often as it takes.

        One about a single file has a `road`. `repeated` is called before every attempt but the first.
        """
        ends_at = time.monotonic() + timeout_s
        retry = retry or self._retry
        attempt_s = retry.attempt_timeout_s
        attempts: Attempts | None = None
        roads, learns = self._roads, road is not None
        if roads is not None and road is None:
            road = Road("")
        while True:
            limit_s = timeout_s if attempt_s is None else min(timeout_s, attempt_s)
            try:
                make = method(self._channel(road))
                if roads is None or road is None or not learns:
                    answer = make(request, timeout=limit_s, metadata=self._metadata)
                    self._reached = True
                    if roads is not None and road is not None:
                        roads.worked(road)
                    return answer
                answer, call = make.with_call(request, timeout=limit_s, metadata=self._headers(road))
                self._reached = True
                roads.answered(road, call.trailing_metadata() or (), getattr(answer, "file", None))
                return answer
            except grpc.RpcError as failed:
                error = self._error(failed, request_id)
                self._strayed(road, error, failed)
            if attempts is None:
                attempts = Attempts(retry, random.random)
            self._wait_or_raise(attempts, error, ends_at - time.monotonic())
            timeout_s = ends_at - time.monotonic()
            if repeated is not None:
                repeated()

    def _raise_if_over(self, failed: Exception) -> None:
        """Raise the failure of one item if it is not the item's own."""
        if self._closing.is_set():
            raise failed

    def _streams(self, ahead: int | None) -> Streams[Any, Any]:
        return Streams(ahead, lambda failed: self._error(failed, None))

    def _error(self, failed: grpc.RpcError, request_id: str | None) -> DesClientError:
        if self._closing.is_set():
            return ClientClosed("the client was closed while the call ran")
        error = from_call(failed, request_id=request_id)
        error.__cause__ = failed
        return error

    def _sleep(self, wait_s: float) -> None:
        """Wait, unless the client is closed meanwhile."""
        if not wait_s:
            return
        if self._closing.wait(wait_s):
            raise ClientClosed("the client was closed while the call ran")

    def _has_reached(self, error: DesClientError) -> bool:
        """Return whether any server has answered this client, `error` included."""
        if error.reason or error.retry_after_s is not None:
            self._reached = True
        return self._reached

    def _wait_or_raise(self, attempts: Attempts, error: DesClientError, remaining_s: float) -> None:
        wait_s = attempts.wait_s(error, remaining_s, reached=self._has_reached(error))
        if wait_s is None:
            error.attempts = attempts.made
            raise error
        if self._closing.wait(wait_s):
            raise ClientClosed("the client was closed while the call ran") from error
