"""Sends requests of the shared HTTP port on to one worker or to all, with the caller's own credentials."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httpx
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from des.assignment.problems import problem

ASK_TIMEOUT_S: Final = 5.0
"""For what workers tell of themselves; a probe does not wait longer."""
CONNECT_TIMEOUT_S: Final = 3.0
SILENCE_TIMEOUT_S: Final = 120.0
"""How long a worker may say nothing amid an answer: it has deadlines of its own, which are shorter."""
CONNECTIONS_MAX: Final = 256
ANSWER_BYTES_MAX: Final = 32 << 20
"""Of an answer that is merged; a page of metrics has about a hundred kilobytes."""
OF_THE_CONNECTION: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that end at the next machine (RFC 9110, section 7.6.1)."""

_log = structlog.get_logger(__name__)

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker answered."""

    status: int
    content: bytes
    media_type: str


class WorkerDoor:
    """Reaches the workers over loopback; as an ASGI application it sends everything on to one of them."""

    def __init__(self, workers: Callable[[], Mapping[int, str]]) -> None:
        """Send on to those that `workers` gives, number to host:port, one after another."""
        self._workers = workers
        self._turns = itertools.count()
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=32),
            trust_env=False,  # a proxy of the environment has no business between two ports of this machine
            follow_redirects=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask_all(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> dict[int, Answer]:
        """Return what each worker answers, by number; one that does not answer in time is left out."""
        kept = [(key, value) for key, value in headers if key.lower() == b"authorization"]
        workers = dict(self._workers())
        answers = await asyncio.gather(*(self._ask(f"http://{at}{path}", kept) for at in workers.values()))
        return {number: answer for number, answer in zip(workers, answers, strict=True) if answer is not None}

    async def _ask(self, url: str, headers: Headers) -> Answer | None:
        try:
            async with (
                asyncio.timeout(ASK_TIMEOUT_S),
                self._client.stream("GET", url, headers=headers) as told,
            ):
                content = bytearray()
                async for piece in told.aiter_bytes():
                    content += piece
                    if len(content) > ANSWER_BYTES_MAX:
                        _log.warning("worker's answer is too long", bytes=len(content))
                        return None
                return Answer(told.status_code, bytes(content), told.headers.get("content-type", ""))
        except (httpx.HTTPError, TimeoutError):
            return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send one request on and its answer back, piece by piece."""
        workers = list(self._workers().values())
        first = next(self._turns)
        for turn in range(len(workers)):
            worker = workers[(first + turn) % len(workers)]
            try:
                answer = await self._client.send(self._request(worker, scope, receive), stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing of the request has left yet
            except ClientDisconnect:
                return
            except httpx.HTTPError as error:
                _log.warning("worker does not answer", error=type(error).__name__)
                break
            back = StreamingResponse(answer.aiter_raw(), answer.status_code)
            back.raw_headers = [each for each in _passed_on(answer.headers.raw) if each[0] != b"date"]
            try:
                await back(scope, receive, send)  # ends, too, when the caller goes away
            finally:
                await answer.aclose()
            return
        refusal = problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "no worker answers", {"retry-after": "1"}, reason="SERVER_BUSY"
        )
        await refusal(scope, receive, send)

    def _request(self, worker: str, scope: Scope, receive: Receive) -> httpx.Request:
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        url = httpx.URL(f"http://{worker}").copy_with(
            raw_path=b"?".join(filter(None, (raw_path, scope["query_string"])))
        )
        headers: Headers = _passed_on(scope["headers"])
        has_body = any(key in {b"content-length", b"transfer-encoding"} for key, _ in scope["headers"])
        content = Request(scope, receive).stream() if has_body else None
        return self._client.build_request(scope["method"], url, headers=headers, content=content)


def _passed_on(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers that are for the other end, names in small letters as ASGI has them."""
    return [(key.lower(), value) for key, value in headers if key.lower() not in OF_THE_CONNECTION]
