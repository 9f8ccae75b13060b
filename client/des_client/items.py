"""What goes into the calls over many files, and what comes out of them: one value per file, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from des_client.errors import InvalidArgument
from des_client.source import Data
from des_client.types import FileInfo, PutResult, ShardInfo

INT64_MAX: Final = (1 << 63) - 1
"""Largest number that a message carries."""


def check_range(offset: int, limit: int | None) -> None:
    """Refuse a range that no request can ask for.

    Raises:
        InvalidArgument: `limit` is below 1, or one of the two is no 64-bit number.
    """
    if limit is not None and limit < 1:
        raise InvalidArgument(f"limit is {limit}, expected at least 1", reason="INVALID_FIELD")
    for field, value in (("offset", offset), ("limit", limit or 0)):
        if not -INT64_MAX <= value <= INT64_MAX:
            raise InvalidArgument(f"{field} is {value}, expected at most {INT64_MAX}", reason="INVALID_FIELD")


@dataclass(frozen=True, slots=True)
class PutItem:
    """One file for `put_many`, where more is to be said about it than its bytes."""

    data: Data
    """Bytes, a path, a binary file, or pieces of bytes, as `put` takes them."""
    name: str | None = None
    """A name from `assign_names`; None to have one assigned."""
    prefix: str | None = None
    """First part of an assigned name; None for the call's."""
    content_type: str = ""
    metadata: Mapping[str, str] | None = None
    request_id: str | None = None
    """A UUID of the caller's own, to repeat the write after a crash; None to have one made."""
    key: Any = None
    """Anything that tells the caller which file this is; it comes back in the outcome."""


@dataclass(frozen=True, slots=True)
class GetItem:
    """One file or range for `get_many`."""

    name: str
    offset: int = 0
    """First byte; negative counts from the end."""
    limit: int | None = None
    """How many bytes at most, not 0; None for all up to the end."""
    key: Any = None
    """Anything that tells the caller which file this is; it comes back in the outcome."""

    def __post_init__(self) -> None:
        check_range(self.offset, self.limit)


@dataclass(frozen=True, slots=True)
class PutOutcome:
    """What became of one file of `put_many`."""

    index: int
    """Its position among the items, from 0."""
    key: Any
    """The item's own `key`; None where the item was bare data."""
    result: PutResult | None
    """None when it failed."""
    error: Exception | None
    """A `DesClientError`, or what reading the item's data raised; None when it is stored."""

    def unwrap(self) -> PutResult:
        """Return the result, or raise the error."""
        if self.result is None:
            raise self.error or AssertionError("an outcome without result and error")
        return self.result


@dataclass(frozen=True, slots=True)
class GetOutcome:
    """What became of one file of `get_many`."""

    index: int
    """Its position among the items, from 0."""
    name: str
    key: Any
    """The item's own `key`; None where the item was a bare name."""
    data: bytes | None
    """None when it failed."""
    file: FileInfo | None
    """None when it failed, and unless `with_info` was asked for."""
    error: Exception | None
    """A `DesClientError`; None when the bytes are here and verified."""

    def unwrap(self) -> bytes:
        """Return the bytes, or raise the error."""
        if self.data is None:
            raise self.error or AssertionError("an outcome without data and error")
        return self.data


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one name of `stat_many`, `delete_many` or `wait_stored`."""

    index: int
    """Its position among the names, from 0."""
    name: str
    file: FileInfo | None
    """None when it failed, or when a deleted name was unknown and that was allowed."""
    error: Exception | None
    """A `DesClientError`; None when it succeeded."""

    def unwrap(self) -> FileInfo | None:
        """Return the file, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.file


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far a call over many files is."""

    done_files: int
    """Files that succeeded."""
    failed_files: int
    done_bytes: int
    """Bytes of the files that succeeded."""
    waiting_for: Exception | None = None
    """Why files were refused that are to be sent again later, the last reason; None when none wait.
    Only `put_many` tells this."""


@dataclass(frozen=True, slots=True)
class FilePage:
    """One page of a listing."""

    files: tuple[FileInfo, ...]
    """In the order of the listing, which stays the same while the store grows."""
    next_page_token: str
    """Where to go on, in this program or another; empty at the end."""


@dataclass(frozen=True, slots=True)
class ShardUpdate:
    """One message of `watch_shards`."""

    shards: tuple[ShardInfo, ...]
    """Those that changed; all that are watched in a snapshot."""
    revision: int
    """Feed it to `watch_shards(start_revision=...)` to go on from here."""
    snapshot: bool
    """True for the whole picture: whatever was known before is out of date."""
