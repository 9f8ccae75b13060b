"""Rows of the catalog about what is to go one day: deleted files, shipped log segments, unknown objects."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One row of `des_tombstones`: a file that was deleted. The row is never removed, the name never free."""

    name: str
    day: str
    """UTC day in the name, YYYYMMDD."""
    shard: int
    bits: int
    """Shard bits that `shard` counts in."""
    epoch: int
    """Of the shard's lock when the file was deleted."""
    external_key: str = ""
    """Object of a big file, which the row then owns: the proof without which it is never collected."""
    deleted_ms: int = 0
    """By the database's clock; set by the catalog, at the first call."""
    purged_ms: int | None = None
    """When no container held the file's bytes any more; None before."""


class LogSegmentId(NamedTuple):
    """Which shipped log segment."""

    node: str
    """UUID of the node that shipped it."""
    boot_epoch: int
    number: int
    """Counts the segments that one start of the node shipped, from 1."""


class LogSegmentState(StrEnum):
    """Whether a shipped log segment is still needed."""

    HELD = "held"
    """Some of its files are in no stored container yet."""
    RELEASED = "released"
    """All its files are in stored containers: its object may go."""


@dataclass(frozen=True, slots=True)
class LogSegmentRow:
    """One row of `des_log_segments`: an object that holds files which are in no container yet."""

    id: LogSegmentId
    key: str
    """Object key."""
    etag: str
    sha256: str
    """Of the whole object, lower-case hex."""
    size: int
    """Of the object, in bytes."""
    first_seq: int
    """Log sequence number of its first file, in the log of the node that shipped it."""
    last_seq: int
    file_count: int
    days: tuple[str, ...]
    """UTC days of its files, YYYYMMDD, ascending."""
    shards: tuple[int, ...]
    """Shards whose files in it are in no stored container yet, ascending."""
    bits: int
    """Shard bits that `shards` count in."""
    state: LogSegmentState = LogSegmentState.HELD
    created_ms: int = 0
    """By the database's clock; set by the catalog."""
    released_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """One row of `des_gc_sightings`: an object that no row of the catalog names, seen in a listing."""

    key: str
    etag: str
    """As listed; an object with another etag is another object, seen for the first time."""
    size: int
    first_ms: int = 0
    """When it was first seen so, by the database's clock; set by the catalog."""
    last_ms: int = 0
    """When it was last seen so."""
