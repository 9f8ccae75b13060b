"""A proxy before an S3 server that knows S3's operations and does to them what networks and stores do.

Real sockets, one event loop. A rule says which operation, of which keys, how often, and what happens: before
the store hears of it or after the effect, where that is the difference. Held requests reach the store when
they are released, long after the client has given up: zombies.
"""

import asyncio
import base64
import contextlib
import re
import socket
import struct
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Self
from urllib.parse import urlsplit

import google_crc32c
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from des.testing.s3_requests import HEAD_SIZE_MAX, Operation, Request, Response, read_request, read_response

DRIP_S: Final = 0.1
"""Between two bytes of a slow answer."""
_VALUES: Final = tuple(re.compile(b"<%b>([^<]+)<" % name) for name in (b"UploadId", b"Key", b"ETag"))
_CONDITIONS: Final = frozenset({"if-match", "if-none-match", "x-amz-copy-source-if-match"})


class Fault(StrEnum):
    """What happens to a request. "before": the store does not hear of it; "after": it does, and acts."""

    ERROR_500_BEFORE = "500 before"
    ERROR_500_AFTER = "500 after"
    ERROR_503_BEFORE = "503 before"
    ERROR_503_AFTER = "503 after"
    RESET_BEFORE = "reset before"
    RESET_AFTER = "reset after"
    TIMEOUT_BEFORE = "timeout before"
    TIMEOUT_AFTER = "timeout after"
    DRIP = "slow drip"
    """The store acts, and its answer comes a byte at a time."""
    TRUNCATED = "truncated"
    """The store acts, and half of its answer comes: of the body, or where there is none the head without what
    it says of the object."""
    FLIPPED_SENT = "flipped byte sent"
    FLIPPED_RECEIVED = "flipped byte received"
    """In the bytes of an object; of an XML answer, in what matters most: an upload's id, a key, an etag."""
    FLIPPED_MARKUP = "flipped markup received"
    """Of an XML answer; what is no XML is hit in its middle."""
    ERROR_IN_200_BEFORE = "error in 200 before"
    ERROR_IN_200_AFTER = "error in 200 after"
    HELD = "held"
    """No answer; the store hears of it when `release` is called."""
    UNCONDITIONAL = "conditions ignored"


@dataclass(slots=True)
class Rule:
    """Which requests a fault meets."""

    fault: Fault
    operation: Operation | None
    """None for every one."""
    key: str
    """Start of the keys, or prefixes, with bucket: "bucket/key"; empty for all."""
    times: int | None
    """How many requests are met; None for all."""
    hits: int = 0
    """How many were."""

    def meets(self, request: Request) -> bool:
        """Whether the next such request is to be met."""
        return (
            (self.times is None or self.hits < self.times)
            and self.operation in {None, request.operation}
            and request.key.startswith(self.key)
        )


@dataclass(slots=True)
class _Held:
    released: asyncio.Event = field(default_factory=asyncio.Event)


class S3FaultProxy:
    """Listens on loopback; `url` is the endpoint for clients."""

    def __init__(self, upstream: str, *, keys: tuple[str, str], verify_checksums: bool = False) -> None:
        """Name the store.

        Args:
            upstream: its endpoint, `http://host:port`.
            keys: access key and secret key, for requests that are changed and signed anew.
            verify_checksums: refuse bytes that do not match their CRC32C, as S3 does, on behalf of a store
                that does not look.
        """
        place = urlsplit(upstream)
        self._upstream: Final = (place.hostname or "", place.port or 80)
        self._keys: Final = keys
        self._verify_checksums = verify_checksums
        self._server: asyncio.Server | None = None
        self._rules: list[Rule] = []
        self._held = _Held()
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[tuple[Operation, str]] = []
        """Every request that came, in order."""
        self.answered: list[tuple[Operation, str, int]] = []
        """Every one that the store answered, with the bytes of the answer's body."""
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_SIZE_MAX)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def inject(
        self, fault: Fault, operation: Operation | None = None, *, key: str = "", times: int | None = None
    ) -> Rule:
        """Make a fault happen from now on; the first rule that meets a request is the one."""
        rule = Rule(fault, operation, key, times)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Let every further request through; held ones stay held."""
        self._rules.clear()

    async def release(self) -> None:
        """Send the held requests to the store, and return when it has answered all of them."""
        held, self._held = self._held, _Held()
        held.released.set()
        waiting = [task for task in self._tasks if task.get_name() == _HELD]
        await asyncio.gather(*waiting, return_exceptions=True)

    # --- one connection ---------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await read_request(reader, writer)) is not None:
                self.requests.append((request.operation, request.key))
                rule = next((rule for rule in self._rules if rule.meets(request)), None)
                if rule is None:
                    await _send(writer, await self._forward(request))
                else:
                    rule.hits += 1
                    if not await self._meet(rule.fault, request, reader, writer):
                        return
        except (OSError, EOFError, asyncio.CancelledError):
            # A client that goes, or a proxy that stops, is no defect of either.
            return
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _meet(
        self, fault: Fault, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Do what the fault says; return whether the connection goes on."""
        match fault:
            case Fault.ERROR_500_BEFORE | Fault.ERROR_500_AFTER:
                if fault is Fault.ERROR_500_AFTER:
                    await self._forward(request)
                await _send(writer, _error(request, 500, "InternalError"))
            case Fault.ERROR_503_BEFORE | Fault.ERROR_503_AFTER:
                if fault is Fault.ERROR_503_AFTER:
                    await self._forward(request)
                await _send(writer, _error(request, 503, "SlowDown"))
            case Fault.ERROR_IN_200_BEFORE | Fault.ERROR_IN_200_AFTER:
                if fault is Fault.ERROR_IN_200_AFTER:
                    await self._forward(request)
                await _send(writer, _error(request, 200, "InternalError"))
            case Fault.RESET_BEFORE | Fault.RESET_AFTER:
                if fault is Fault.RESET_AFTER:
                    await self._forward(request)
                _reset(writer)
                return False
            case Fault.TIMEOUT_BEFORE | Fault.TIMEOUT_AFTER:
                if fault is Fault.TIMEOUT_AFTER:
                    await self._forward(request)
                await reader.read()  # until the client gives up
                return False
            case Fault.DRIP:
                answer = await self._forward(request)
                for byte in answer.head + answer.body:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(DRIP_S)
            case Fault.TRUNCATED:
                answer = await self._forward(request)
                writer.write(
                    answer.head + answer.body[: len(answer.body) // 2]
                    if answer.body
                    else _cut_head(answer.head)
                )
                await writer.drain()
                writer.close()
                await writer.wait_closed()
                return False
            case Fault.FLIPPED_SENT:
                await _send(writer, await self._forward(request, body=_flipped(request.body)))
            case Fault.FLIPPED_RECEIVED:
                answer = await self._forward(request)
                await _send(writer, Response(answer.status, answer.head, _flipped_value(answer.body)))
            case Fault.FLIPPED_MARKUP:
                answer = await self._forward(request)
                await _send(writer, Response(answer.status, answer.head, _flipped_markup(answer.body)))
            case Fault.UNCONDITIONAL:
                await _send(writer, await self._forward(_without_conditions(request, self._keys)))
            case Fault.HELD:
                late = asyncio.create_task(self._forward_late(request, self._held), name=_HELD)
                self._tasks.add(late)
                late.add_done_callback(self._tasks.discard)
                await reader.read()
                return False
        return True

    async def _forward_late(self, request: Request, held: _Held) -> None:
        await held.released.wait()
        with contextlib.suppress(OSError, EOFError):
            await self._forward(request)

    async def _forward(self, request: Request, *, body: bytes | None = None) -> Response:
        """Send a request to the store, and return its answer."""
        sent = request.body if body is None else body
        if self._verify_checksums and not _matches(request, sent):
            return _error(request, 400, "BadDigest")
        reader, writer = await asyncio.open_connection(*self._upstream, limit=HEAD_SIZE_MAX)
        try:
            lines = [f"{request.method} {request.target} HTTP/1.1"]
            lines += [
                f"{name}: {value}"
                for name, value in request.headers
                if name.lower() not in {"expect", "connection"}
            ]
            lines += ["Connection: close", "", ""]
            writer.write("\r\n".join(lines).encode("latin-1") + sent)
            await writer.drain()
            answer = await read_response(reader, request.method)
            self.answered.append((request.operation, request.key, len(answer.body)))
            return answer
        finally:
            writer.transport.abort()


_HELD: Final = "held request"


async def _send(writer: asyncio.StreamWriter, answer: Response) -> None:
    writer.write(answer.head + answer.body)
    await writer.drain()


def _error(request: Request, status: int, code: str) -> Response:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>by the fault proxy</Message><RequestId>0</RequestId></Error>"
    ).encode()
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return Response(status, head.encode(), b"" if request.method == "HEAD" else body)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST rather than FIN, as a machine does that knows nothing of the connection."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _flipped(data: bytes) -> bytes:
    """Return `data` with one bit in its middle changed; nothing stays nothing."""
    return _flipped_at(data, len(data) // 2) if data else data


def _flipped_value(data: bytes) -> bytes:
    """Return an answer with one bit changed in the first of `_VALUES` that it has; others as `_flipped`."""
    for value in _VALUES:
        if found := value.search(data):
            return _flipped_at(data, sum(found.span(1)) // 2)
    return _flipped(data)


def _flipped_markup(data: bytes) -> bytes:
    """Return an XML answer whose last tag begins with another character than "<"; others as `_flipped`."""
    return _flipped_at(data, data.rindex(b"<")) if data.startswith(b"<") else _flipped(data)


def _flipped_at(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def _cut_head(head: bytes) -> bytes:
    """Return a head that breaks off, at the end of a line, before all it says of an object.

    A careless client does not miss the rest. Whatever the order in which a store sends them, what is left are
    the same lines.
    """
    status, *lines = head.split(b"\r\n")
    kept = [line for line in lines if line.lower().startswith((b"content-", b"date:", b"server:"))]
    return b"\r\n".join((status, *kept)) + b"\r\n"


def _matches(request: Request, body: bytes) -> bool:
    sent = request.header("x-amz-checksum-crc32c")
    if not sent or request.operation not in {Operation.CREATE, Operation.PART}:
        return True
    crc32c: int = google_crc32c.value(body)
    return base64.b64decode(sent) == crc32c.to_bytes(4, "big")


def _without_conditions(request: Request, keys: tuple[str, str]) -> Request:
    """Return the request without its conditions, signed anew: as a store reads it that ignores them."""
    headers = {
        name: value
        for name, value in request.headers
        if name.lower() not in _CONDITIONS | {"authorization", "x-amz-date", "expect", "connection"}
    }
    signed = AWSRequest(
        method=request.method,
        url=f"http://{request.header('host')}{request.target}",
        headers=headers,
        data=request.body,
    )
    S3SigV4Auth(Credentials(*keys), "s3", _region(request)).add_auth(signed)
    return replace(request, headers=tuple((name, str(value)) for name, value in signed.headers.items()))


def _region(request: Request) -> str:
    # Credential=<key>/<day>/<region>/s3/aws4_request
    return request.header("authorization").split("Credential=")[1].split("/")[2]
