"""Rows of the catalog besides containers and locks: what is open, deleted, shipped, or seen and unknown."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class OpenContainer:
    """One row of `des_containers` in state `open`: what a shard had in no container when last told.

    It has no object, no key and no part in reading; the holder's log is the truth, and this its shadow
    for those who cannot ask the holder.
    """

    day: str
    """UTC day of the files' names, YYYYMMDD."""
    shard: int
    bits: int
    """Shard bits that `shard` counts in."""
    files: int
    data_bytes: int
    """Sum of their uncompressed sizes, external files left out."""
    oldest_ms: int
    """When the oldest of them was appended, UTC milliseconds since 1970 by its node's clock."""
    node: str
    """UUID of the node whose log has them."""
    epoch: int = 0
    """Of the shard's lock; set by the catalog."""
    told_ms: int = 0
    """By the database's clock; set by the catalog."""


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
