"""What passes between a source database and its workers, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeAlias

RowId: TypeAlias = Any
"""Whatever the id column holds; hashable and ordered."""


class FailReason(StrEnum):
    """Why a row cannot be packed: the first word of its error column."""

    BAD_KEY = "BAD_KEY"
    """NULL, empty, too long, or not text that an object key can be."""
    BAD_BUCKET = "BAD_BUCKET"
    """Not on the source's list."""
    BAD_NAME = "BAD_NAME"
    """The name column holds no DES name."""
    BAD_METADATA = "BAD_METADATA"
    MISSING = "MISSING"
    """The object store says there is no such object."""
    FORBIDDEN = "FORBIDDEN"
    TOO_LARGE = "TOO_LARGE"
    CHANGED = "CHANGED"
    """The object is not, or no longer, the one that the row describes: etag or size differ."""
    NAME_CONFLICT = "NAME_CONFLICT"
    """The store has other bytes under the row's name: the object changed after it was packed before."""
    ROW_CHANGED = "ROW_CHANGED"
    """The row points at another object than when it was claimed."""
    REFUSED = "REFUSED"
    """The table or the store refuses the row, for the cause that follows."""


RETRIED = frozenset({FailReason.MISSING, FailReason.FORBIDDEN, FailReason.CHANGED, FailReason.REFUSED})
"""Reasons that may pass; a row with another one is `failed` at once."""

RENAMED = frozenset({FailReason.NAME_CONFLICT, FailReason.ROW_CHANGED, FailReason.BAD_NAME})
"""Reasons after which a row that is tried again needs a new name: the old one stands for other bytes."""


@dataclass(frozen=True, slots=True)
class ClaimOwner:
    """Who claims: the store, and the process that holds the lock of the shard."""

    store_id: str
    holder: str
    """As in the shard lock: unique to a process start."""

    @property
    def store_mark(self) -> str:
        """What all tokens of this store start with."""
        return f"{self.store_id.replace('-', '')[:12]}:"

    @property
    def token(self) -> str:
        """Return what the claim column of this owner's rows holds: 49 characters at most."""
        return self.store_mark + self.holder


@dataclass(frozen=True, slots=True)
class ClaimedRow:
    """A row that this process claimed, as it was then."""

    source: str
    id: RowId
    name: str
    shard: int
    bucket: str | None
    key: str | None
    etag: str | None
    size: int | None
    """Length in bytes as the row says; None where it does not."""
    content_type: str
    metadata: Mapping[str, str]
    attempts: int
    """Failures so far."""
    reclaimed: bool
    """Somebody claimed it before, so its file may be stored already."""


@dataclass(frozen=True, slots=True)
class PackedRow:
    """A claimed row whose file is in a stored container."""

    row: ClaimedRow
    container_id: str
    sha256: str
    """Of the file, lower-case hex."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of rows that were to be marked packed."""

    packed: int
    """Marked now, or before by this owner."""
    gone: int
    """Deleted since."""
    changed: int
    """They point at another object now; marked failed."""
    lost: int
    """Claimed by somebody else, or given another status by their owner; left alone."""


@dataclass(frozen=True, slots=True)
class MarkedBatch:
    """What one transaction of marking did."""

    found: int
    """Rows that were eligible."""
    marked: int
    failed: int
    """Rows that can never be packed."""


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A dead letter."""

    id: RowId
    name: str | None
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class StatusCounts:
    """Rows of a source by where they are in their life."""

    pending: int
    marked: int
    claimed: int
    packed: int
    failed: int
    other: int
    """With a status that is none of DES's."""


def moment(ms: int) -> datetime:
    """Return UTC milliseconds since 1970 as a time with its zone."""
    return datetime.fromtimestamp(ms / 1000, UTC)
