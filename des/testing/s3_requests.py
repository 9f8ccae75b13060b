"""Requests to an S3 server and its answers, read whole from a connection and understood."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

HEAD_SIZE_MAX: Final = 64 << 10
_NO_BODY: Final = frozenset({204, 304})


class Operation(StrEnum):
    """What a request asks of S3."""

    CREATE = "create"
    BEGIN = "begin"
    PART = "part"
    COMPLETE = "complete"
    ABORT = "abort"
    HEAD = "head"
    RANGE = "range"
    TAIL = "tail"
    LIST = "list"
    DELETE = "delete"
    COPY = "copy"
    OTHER = "other"
    """Anything else; no rule that names an operation meets it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    operation: Operation
    key: str
    """Bucket, "/" and key; for a listing the prefix."""

    def header(self, name: str) -> str:
        """Return a header's value, empty where it is absent; `name` in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass(frozen=True, slots=True)
class Response:
    """One answer of the store, whole."""

    status: int
    head: bytes
    """Status line and headers with the empty line; says Content-Length."""
    body: bytes


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """Return the next request of a connection, whole; None when the client is done."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *rest = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = line.split(" ")
    headers = tuple((name, value.strip()) for name, _, value in (one.partition(":") for one in rest))
    named = {name.lower(): value for name, value in headers}
    if named.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    body = await reader.readexactly(int(named.get("content-length", "0")))
    operation, key = _understand(method, target, named)
    return Request(method, target, headers, body, operation, key)


def _understand(method: str, target: str, headers: Mapping[str, str]) -> tuple[Operation, str]:
    place = urlsplit(target)
    query = parse_qs(place.query, keep_blank_values=True)
    path = unquote(place.path).lstrip("/")
    bucket, _, key = path.partition("/")
    if not key:
        if method == "GET" and "list-type" in query:
            return Operation.LIST, f"{bucket}/{query.get('prefix', [''])[0]}"
        return Operation.OTHER, path
    match method:
        case "PUT" if "partNumber" in query:
            return (Operation.COPY if "x-amz-copy-source" in headers else Operation.PART), path
        case "PUT":
            return Operation.CREATE, path
        case "POST" if "uploads" in query:
            return Operation.BEGIN, path
        case "POST" if "uploadId" in query:
            return Operation.COMPLETE, path
        case "DELETE":
            return (Operation.ABORT if "uploadId" in query else Operation.DELETE), path
        case "HEAD":
            return Operation.HEAD, path
        case "GET" if headers.get("range", "").startswith("bytes=-"):
            return Operation.TAIL, path
        case "GET":
            return Operation.RANGE, path
        case _:
            return Operation.OTHER, path


async def read_response(reader: asyncio.StreamReader, method: str) -> Response:
    """Return the answer to a request of this method, whole, however it was cut up on the way."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").split("\r\n")[:-2]
        status = int(line.split(" ")[1])
        if status != 100:
            break
    headers = [(name, value.strip()) for name, _, value in (one.partition(":") for one in rest)]
    named = {name.lower(): value for name, value in headers}
    if method == "HEAD" or status in _NO_BODY:
        body = b""
    elif named.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    elif "content-length" in named:
        body = await reader.readexactly(int(named["content-length"]))
    else:
        body = await reader.read()
    kept = [line]
    kept += [
        f"{name}: {value}"
        for name, value in headers
        if name.lower() not in {"transfer-encoding", "connection", "keep-alive"}
        and (name.lower() != "content-length" or method == "HEAD")
    ]
    if method != "HEAD" and status not in _NO_BODY:
        kept.append(f"Content-Length: {len(body)}")
    return Response(status, "\r\n".join([*kept, "", ""]).encode("latin-1"), body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(parts)
