"""The file door: `GET` and `HEAD /files/{name}`, read only, for browsers and curl.

Stored bytes are strangers' bytes. They are served so that a browser takes them for what they are said to
be and nothing more, in an origin of their own: no script of a stored page can act on this one.
"""

import base64
import re
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from des.assignment.problems import problem
from des.files import FileInfo
from des.monitoring.metrics import NodeMetrics
from des.node import Node
from des.retrieval import OpenedFile
from des_server.inflight import InFlight

PREFIX: Final = "/files"
INLINE: Final = re.compile(
    r"(text/plain|image/(png|jpeg|gif|webp|avif|bmp)|audio/[\w.+-]+|video/[\w.+-]+)(;.*)?"
)
"""Types that a browser may show in place; everything else is offered for saving."""
MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}(\s*;[\x20-\x7e]*)?", re.ASCII)
UNKNOWN_TYPE: Final = "application/octet-stream"
_RANGE: Final = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII | re.IGNORECASE)
_TAG: Final = re.compile(r'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')


def file_router(node: Node, inflight: InFlight, metrics: NodeMetrics) -> APIRouter:
    """Return the door to a node's files; each request counts among the calls in flight."""
    router = APIRouter(prefix=PREFIX)

    @router.get(
        "/{name}",
        response_class=Response,
        responses={
            200: {"description": "The file.", "content": {UNKNOWN_TYPE: {}}},
            206: {"description": "The range that was asked for."},
            304: {"description": "The client has it already."},
            404: {"description": "There is no such file."},
            410: {"description": "The file was deleted."},
            416: {"description": "The range is not in the file."},
        },
    )
    async def get_file(name: str, request: Request) -> Response:
        """Return a file, or one range of it."""
        inflight.enter()
        try:
            opened = await node.open_file(name)
            early = _precondition(request, opened.info)
            if early is not None:
                inflight.leave()
                return early
            answer = await _content(request, opened, inflight, metrics)
        except BaseException:
            inflight.leave()
            raise
        return answer

    @router.head("/{name}", response_class=Response)
    async def head_file(name: str, request: Request) -> Response:
        """Return what is known of a file."""
        inflight.enter()
        try:
            info = await node.stat(name)
        finally:
            inflight.leave()
        early = _precondition(request, info)
        if early is not None:
            return early
        return Response(headers={**headers_of(info), "content-length": str(info.size)})

    return router


def etag_of(info: FileInfo) -> str:
    """Return the strong validator of a file's bytes."""
    return f'"{info.crc32c:08x}-{info.size:x}"'


def headers_of(info: FileInfo) -> dict[str, str]:
    """Return what is said of a file beside its bytes."""
    media_type = info.content_type if MEDIA_TYPE.fullmatch(info.content_type) else UNKNOWN_TYPE
    shown = "inline" if INLINE.fullmatch(media_type.lower()) else "attachment"
    digest = base64.b64encode(info.crc32c.to_bytes(4, "big")).decode()
    return {
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",  # a deleted file must not be shown from a cache
        "content-disposition": f"{shown}; filename*=UTF-8''{quote(info.name, safe='')}",
        "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; media-src 'self'",
        "content-type": media_type,
        "cross-origin-resource-policy": "same-origin",
        "etag": etag_of(info),
        "last-modified": formatdate(info.created_ms // 1000, usegmt=True),
        "repr-digest": f"crc32c=:{digest}:",
        "x-content-type-options": "nosniff",
        "x-des-crc32c": f"{info.crc32c:08x}",
    }


def _precondition(request: Request, info: FileInfo) -> Response | None:
    """Return the answer that spares the bytes, None where they are to be sent (RFC 9110, section 13)."""
    etag = etag_of(info)
    wanted = request.headers.get("if-match")
    if wanted is not None and not _names(wanted, etag, weak=False):
        return problem(HTTPStatus.PRECONDITION_FAILED, f"the file's ETag is {etag}", {"etag": etag})
    known = request.headers.get("if-none-match")
    if known is not None and _names(known, etag, weak=True):
        kept = {key: value for key, value in headers_of(info).items() if key != "content-type"}
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)
    return None


def _names(listed: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags, or `*`, names a tag; `weak` compares without regard to W/."""
    if listed.strip() == "*":
        return True
    return any(tag == etag and (weak or not prefix) for prefix, tag in _TAG.findall(listed))


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the half-open range that a `Range` header asks of `size` bytes; None for the whole.

    What is not one range of bytes is as if it were not there, as RFC 9110, section 14.2 allows: other
    units, bad syntax, and several ranges at once.

    Raises:
        LookupError: no byte of the file is in the range.
    """
    found = _RANGE.fullmatch(header) if header else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        suffix = int(last)
        if not suffix or not size:
            raise LookupError
        return max(0, size - suffix), size
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise LookupError
    return start, min(size, int(last) + 1) if last else size


async def _content(
    request: Request, opened: OpenedFile, inflight: InFlight, metrics: NodeMetrics
) -> Response:
    info = opened.info
    headers = headers_of(info)
    header = request.headers.get("range")
    if_range = request.headers.get("if-range")
    if if_range is not None and if_range.strip() != etag_of(info):
        header = None
    try:
        window = parse_range(header, info.size)
    except LookupError:
        inflight.leave()
        return problem(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"the file has {info.size} bytes",
            {"content-range": f"bytes */{info.size}"},
            reason="RANGE_NOT_SATISFIABLE",
        )
    start, stop = window or (0, info.size)
    status = HTTPStatus.OK
    if window is not None:
        status = HTTPStatus.PARTIAL_CONTENT
        headers["content-range"] = f"bytes {start}-{stop - 1}/{info.size}"
        del headers["x-des-crc32c"]  # of the whole file
    headers["content-length"] = str(stop - start)
    pieces = opened.read(start, stop) if start < stop else _nothing()
    # The first piece before the first header: what goes wrong so far is still an error with a status.
    first = await anext(pieces, b"")
    metrics.got(size=stop - start, requests=opened.cost.requests, stored_bytes=opened.cost.bytes)
    return _CountedResponse(
        _streamed(first, pieces), status_code=status, headers=headers, on_end=inflight.leave
    )


class _CountedResponse(StreamingResponse):
    """A stream that is counted out when it ends, also when nobody reads a byte of it."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        *,
        status_code: int,
        headers: dict[str, str],
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(content, status_code=status_code, headers=headers)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


async def _streamed(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
