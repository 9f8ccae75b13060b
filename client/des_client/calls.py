"""What both clients do the same: check arguments, build requests, follow pages. No I/O in here."""

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Protocol

from des_proto.v1 import file_service_pb2, naming_service_pb2, shard_service_pb2, types_pb2

from des_client import convert
from des_client.errors import (
    DeadlineExceeded,
    DesClientError,
    Internal,
    InvalidArgument,
    RangeNotSatisfiable,
    Unavailable,
)
from des_client.types import FileInfo, ShardInfo

PUT_FILE: Final = "/des.v1.FileService/PutFile"

LIMITS_TIMEOUT_S: Final = 5.0
"""How long at most a large upload waits to learn the server's limits before it starts without them."""


def check_timeout(timeout_s: float) -> float:
    """Return a usable timeout.

    Raises:
        InvalidArgument: it is not a finite number above zero.
    """
    if not 0 < timeout_s < math.inf:
        raise InvalidArgument(f"timeout_s is {timeout_s}, expected a finite number above 0")
    return timeout_s


def timeout(given_s: float | None, default_s: float) -> float:
    """Choose between a call's own timeout and the client's."""
    return default_s if given_s is None else check_timeout(given_s)


def check_limit(limit: int | None) -> None:
    """Refuse a negative limit."""
    if limit is not None and limit < 0:
        raise InvalidArgument(f"limit is {limit}, expected at least 0", reason="INVALID_FIELD")


def nothing(file: FileInfo, offset: int) -> bytes:
    """Return the zero bytes at `offset`, which must lie in the file all the same.

    On the wire a limit of 0 means "to the end", so this range is answered here.
    """
    if not -file.size_bytes <= offset <= file.size_bytes:
        raise RangeNotSatisfiable(
            f"{file.name!r}: offset {offset} lies outside its {file.size_bytes} bytes",
            reason="RANGE_NOT_SATISFIABLE",
            metadata={"offset": str(offset), "size": str(file.size_bytes)},
        )
    return b""


class _Sized(Protocol):
    size: int | None


def check_size(source: _Sized, content: bytes) -> None:
    """Compare what was read with what the source or the caller promised."""
    if source.size is not None and source.size != len(content):
        raise InvalidArgument(
            f"the source gave {len(content)} bytes, expected {source.size}",
            reason="UPLOAD_SIZE_MISMATCH",
            metadata={"expected": str(source.size), "actual": str(len(content))},
        )


WATCH_SILENCE_S: Final = 90.0
"""How long a watch may be silent: servers send a heartbeat every half minute or so."""
WATCH_AHEAD: Final = 16
"""Updates that may wait for a slow reader."""

FULL: Final = types_pb2.FILE_VIEW_FULL


def text(given: str) -> str:
    """Return text that the wire can carry.

    Raises:
        InvalidArgument: it holds half of a surrogate pair, which no UTF-8 can say.
        TypeError: it is no text.
    """
    if not isinstance(given, str):
        raise TypeError(f"expected a str, found {type(given).__name__!r}")
    try:
        given.encode()
    except UnicodeEncodeError as failed:
        raise convert.not_unicode(failed) from None
    return given


class SilentError(DeadlineExceeded):
    """A transfer stood still for too long, or took too long in all."""


def silent(what: str, done: int) -> SilentError:
    """Say how far a transfer came that ran out of time."""
    return SilentError(f"{what} stood at byte {done} when its time was over")


def forgotten(cause: DesClientError) -> Unavailable:
    """Say that a resumable upload has to start again; that is tried as other attempts are."""
    error = Unavailable(f"the server has forgotten the upload: {cause}", reason=cause.reason)
    error.__cause__ = cause
    return error


def stat_request(name: str) -> file_service_pb2.StatFileRequest:
    """Ask for everything about a file."""
    try:
        return file_service_pb2.StatFileRequest(name=name, view=types_pb2.FILE_VIEW_FULL)
    except UnicodeEncodeError as failed:
        raise convert.not_unicode(failed) from None


def assign_request(count: int, prefix: str, request_id: str) -> naming_service_pb2.AssignNameRequest:
    """Ask for names."""
    if not 1 <= count < 1 << 31:
        raise InvalidArgument(f"count is {count}, expected at least 1", reason="INVALID_FIELD")
    try:
        return naming_service_pb2.AssignNameRequest(count=count, prefix=prefix, request_id=request_id)
    except UnicodeEncodeError as failed:
        raise convert.not_unicode(failed) from None


def list_request(
    *,
    day: str,
    shard_ids: Iterable[int],
    prefix: str,
    created_after: datetime | None,
    created_before: datetime | None,
    show_deleted: bool,
    with_metadata: bool,
    page_size: int,
) -> file_service_pb2.ListFilesRequest:
    """Ask for the first page of a listing."""
    if page_size < 0:
        raise InvalidArgument(f"page_size is {page_size}, expected at least 0", reason="INVALID_FIELD")
    return file_service_pb2.ListFilesRequest(
        day=text(day),
        shard_ids=[_shard_id(one) for one in shard_ids],
        prefix=text(prefix),
        created_after=None if created_after is None else convert.wire_time(created_after),
        created_before=None if created_before is None else convert.wire_time(created_before),
        show_deleted=show_deleted,
        view=FULL if with_metadata else types_pb2.FILE_VIEW_BASIC,
        page_size=page_size,
    )


def watch_request(
    shard_ids: Iterable[int], start_revision: int, min_interval: timedelta | None
) -> shard_service_pb2.WatchShardStatusRequest:
    """Ask to follow shards."""
    request = shard_service_pb2.WatchShardStatusRequest(
        shard_ids=[_shard_id(one) for one in shard_ids], start_revision=start_revision
    )
    if min_interval is not None:
        request.min_interval.FromTimedelta(min_interval)
    return request


def silent_watch(silence_s: float) -> Unavailable:
    """Say that not even a heartbeat came."""
    return Unavailable(f"the watch was silent for {silence_s} s")


def ended_watch() -> Unavailable:
    """Say that the server ended a watch, as one that shuts down does."""
    return Unavailable("the server ended the watch")


def compacted_watch(cause: DesClientError) -> Unavailable:
    """Say that a watch has to start with a snapshot again."""
    error = Unavailable(f"the server has forgotten the revision: {cause}", reason=cause.reason)
    error.__cause__ = cause
    return error


def seal_request(shard_id: int, request_id: str) -> shard_service_pb2.SealShardRequest:
    """Ask for a seal."""
    return shard_service_pb2.SealShardRequest(shard_id=_shard_id(shard_id), request_id=request_id)


def _shard_id(shard_id: int) -> int:
    if not 0 <= shard_id < 1 << 32:
        raise InvalidArgument(f"shard id is {shard_id}, expected 0 or more", reason="INVALID_FIELD")
    return shard_id


class ShardPages:
    """Follows the pages of a shard status. No shards asked for is no page; None asks for all."""

    def __init__(self, shard_ids: Iterable[int] | None) -> None:
        ids = None if shard_ids is None else [_shard_id(one) for one in shard_ids]
        self._next: shard_service_pb2.ShardStatusRequest | None = (
            None if ids == [] else shard_service_pb2.ShardStatusRequest(shard_ids=ids or [])
        )
        self._tokens: set[str] = set()
        self.shards: list[ShardInfo] = []

    def request(self) -> shard_service_pb2.ShardStatusRequest | None:
        """Build the request of the next page; None when there is none."""
        return self._next

    def accept(self, page: shard_service_pb2.ShardStatusResponse) -> None:
        """Take a page.

        Raises:
            Internal: the server sends the reader in circles.
        """
        self.shards.extend(map(convert.shard_info, page.shards))
        token = page.next_page_token
        if not token:
            self._next = None
            return
        if token in self._tokens or self._next is None:
            raise Internal(f"page token {token!r} came twice")
        self._tokens.add(token)
        self._next = shard_service_pb2.ShardStatusRequest(shard_ids=self._next.shard_ids, page_token=token)
