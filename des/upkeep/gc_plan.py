"""What may be deleted, decided over values alone (docs/upkeep.md, "The law of collection").

An object goes only with positive proof: a row that says it is nobody's any more, long enough ago; or, where
no row names it, two sightings far apart and every file of it found elsewhere. Whatever is not proven stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from des.config.settings import GcSettings
from des.db.catalog import ContainerRow, ContainerState
from des.db.rows import LogSegmentRow, LogSegmentState, Sighting, Tombstone
from des.errors import PreconditionError
from des.storage.object_store import ObjectInfo
from des.upkeep.object_keys import ObjectKind, container_made_ms, parse_key

_NEVER: Final = frozenset({ObjectKind.STORE_ID, ObjectKind.DELETED_NAMES})
"""Kinds that no row names and that are not worth a word."""


class GcRefusedError(PreconditionError):
    """Something does not add up, or too much would go: nothing was deleted."""

    reason = "INTERNAL"


class Cause(StrEnum):
    """Why an object may go."""

    RETIRED = "retired"
    """Its container was replaced."""
    ABANDONED = "abandoned"
    """Its upload will never be recorded."""
    RELEASED = "released"
    """A shipped log segment whose files are all in stored containers."""
    DELETED = "deleted"
    """A big file whose name has a tombstone that owns the object."""
    SUPERSEDED = "superseded"
    """A container that no row names, all of whose files are in containers that are."""


@dataclass(frozen=True, slots=True)
class GcLimits:
    """How careful a collection is."""

    grace_ms: int = 24 * 3600 * 1000
    """An object stays this long after its row said that it may go: longer than any read."""
    unnamed_ms: int = 24 * 3600 * 1000
    """Time between the first sighting of an object that no row names and the one that may end it."""
    objects_max: int = 1000
    """More than this in one run stops the run."""
    bytes_max: int = 1 << 30
    """So does more than this, or more than `share_max` of all bytes where that is more."""
    share_max: float = 0.001
    clock_jump_ms: int = 3600 * 1000
    """So does a database whose clock is this far from ours."""

    @classmethod
    def of(cls, settings: GcSettings) -> "GcLimits":
        """Return what the settings say."""
        return cls(
            grace_ms=int(settings.grace_s * 1000),
            unnamed_ms=int(settings.unnamed_s * 1000),
            objects_max=settings.objects_max,
            bytes_max=int(settings.bytes_max),
        )


@dataclass(frozen=True, slots=True)
class Doomed:
    """One object that may go."""

    key: str
    etag: str
    size: int
    cause: Cause
    row: ContainerRow | LogSegmentRow | None = None
    """What named it last; None for a big file and a superseded container."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a collection looked at, all of it whole."""

    now_ms: int
    """The database's time."""
    local_ms: int
    """Ours."""
    objects: Mapping[str, ObjectInfo]
    """The listing, by key. It was made before the rows were read: a row stands before its object."""
    rows: Sequence[ContainerRow]
    tombstones: Sequence[Tombstone]
    """Those that own an object."""
    segments: Sequence[LogSegmentRow]
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What may go, and what may only with further proof."""

    doomed: tuple[Doomed, ...]
    suspects: tuple[ObjectInfo, ...] = ()
    """Containers that no row names, seen long ago and again: to be proven superseded one by one."""
    stray_segments: tuple[ObjectInfo, ...] = ()
    """Shipped log segments of that kind: recorded as released once every file is proven to be elsewhere."""
    gone: tuple[ContainerRow, ...] = ()
    """Retired or abandoned rows whose objects are not there any more, which is not recorded yet."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """Objects that no row names and that stay, counted by kind."""


def unnamed(found: Found) -> list[ObjectInfo]:
    """Return the containers and the shipped log segments in the listing that no row names."""
    named = {row.key for row in found.rows} | {row.key for row in found.segments}
    kinds = {ObjectKind.CONTAINER, ObjectKind.LOG_SEGMENT}
    return [
        info
        for key, info in sorted(found.objects.items())
        if key not in named and parse_key(key, prefix=found.prefix).kind in kinds
    ]


def plan_collection(found: Found, sightings: Iterable[Sighting], limits: GcLimits) -> GcPlan:
    """Say what may go.

    Raises:
        GcRefusedError: the clocks disagree, or the listing lacks objects that rows name as stored: it is of
            another bucket, or not whole.
    """
    sightings = list(sightings)
    _check_clocks(found, sightings, limits)
    _check_listing(found)
    doomed = [
        *_doomed_containers(found, limits),
        *_doomed_segments(found, limits),
        *_doomed_big_files(found, limits),
    ]
    ripe = {
        one.key: one.etag
        for one in sightings
        if one.last_ms - one.first_ms >= limits.unnamed_ms and one.last_ms <= found.now_ms
    }
    suspects: list[ObjectInfo] = []
    stray: list[ObjectInfo] = []
    for info in unnamed(found):
        place = parse_key(info.key, prefix=found.prefix)
        is_container = place.kind is ObjectKind.CONTAINER
        made_ms = container_made_ms(place.name) if is_container else info.modified_ms
        if ripe.get(info.key) == info.etag and found.now_ms - made_ms >= limits.unnamed_ms:
            (suspects if is_container else stray).append(info)
    return GcPlan(
        tuple(doomed),
        tuple(suspects),
        tuple(stray),
        tuple(_gone(found)),
        _count_kept(found, doomed, suspects),
    )


def check_amount(doomed: Sequence[Doomed], objects: Mapping[str, ObjectInfo], limits: GcLimits) -> None:
    """Refuse a run that would delete too much.

    Raises:
        GcRefusedError: it would; a person has to look, and raise the limits.
    """
    size = sum(one.size for one in doomed)
    total = sum(info.size for info in objects.values())
    bytes_max = max(limits.bytes_max, int(limits.share_max * total))
    if len(doomed) > limits.objects_max or size > bytes_max:
        raise GcRefusedError(
            f"{len(doomed)} objects of {size} bytes would go, at most {limits.objects_max} objects of "
            f"{bytes_max} bytes may in one run",
            objects=len(doomed),
            bytes=size,
        )


def _check_clocks(found: Found, sightings: Iterable[Sighting], limits: GcLimits) -> None:
    if abs(found.now_ms - found.local_ms) > limits.clock_jump_ms:
        raise GcRefusedError(
            f"the database's clock is {found.now_ms - found.local_ms} ms from ours, at most "
            f"{limits.clock_jump_ms} ms are believed"
        )
    latest = max((one.last_ms for one in sightings), default=0)
    if latest > found.now_ms:
        raise GcRefusedError(
            f"the database's clock stands {latest - found.now_ms} ms before an earlier sighting"
        )


def _check_listing(found: Found) -> None:
    missing = [
        row for row in found.rows if row.state is ContainerState.STORED and row.key not in found.objects
    ]
    missing_segments = [
        row for row in found.segments if row.state is LogSegmentState.HELD and row.key not in found.objects
    ]
    if missing or missing_segments:
        first = (missing or missing_segments)[0].key
        raise GcRefusedError(
            f"the listing lacks {len(missing) + len(missing_segments)} objects that rows name as stored, the "
            f"first {first!r}: it is not whole, it is of another bucket, or they are lost (`des fsck`)",
            key=first,
        )


def _doomed_containers(found: Found, limits: GcLimits) -> Iterable[Doomed]:
    causes = {ContainerState.RETIRED: Cause.RETIRED, ContainerState.ABANDONED: Cause.ABANDONED}
    for row in found.rows:
        info = found.objects.get(row.key)
        since = row.retired_ms if row.state is ContainerState.RETIRED else row.abandoned_ms
        if row.state not in causes or info is None or since is None:
            continue
        # An abandoned upload has no etag: its object may land late, and again.
        if found.now_ms - since >= limits.grace_ms and row.etag in {"", info.etag}:
            yield Doomed(row.key, info.etag, info.size, causes[row.state], row)


def _doomed_segments(found: Found, limits: GcLimits) -> Iterable[Doomed]:
    for row in found.segments:
        info = found.objects.get(row.key)
        if row.state is not LogSegmentState.RELEASED or info is None or row.released_ms is None:
            continue
        if found.now_ms - row.released_ms >= limits.grace_ms and row.etag == info.etag:
            yield Doomed(row.key, info.etag, info.size, Cause.RELEASED, row)


def _doomed_big_files(found: Found, limits: GcLimits) -> Iterable[Doomed]:
    for tombstone in found.tombstones:
        info = found.objects.get(tombstone.external_key)
        if info is None or found.now_ms - tombstone.deleted_ms < limits.grace_ms:
            continue
        place = parse_key(info.key, prefix=found.prefix)
        # The row must own this very object: its name is in the key.
        if place.kind is ObjectKind.BIG_FILE and place.name == tombstone.name:
            yield Doomed(info.key, info.etag, info.size, Cause.DELETED)


def _gone(found: Found) -> Iterable[ContainerRow]:
    return (
        row
        for row in found.rows
        if row.state in {ContainerState.RETIRED, ContainerState.ABANDONED}
        and row.removed_ms is None
        and row.key not in found.objects
    )


def _count_kept(found: Found, doomed: Iterable[Doomed], suspects: Iterable[ObjectInfo]) -> dict[str, int]:
    going = {one.key for one in doomed} | {one.key for one in suspects}
    named = {row.key for row in found.rows} | {row.key for row in found.segments}
    counts: dict[str, int] = {}
    for key in found.objects:
        kind = parse_key(key, prefix=found.prefix).kind
        if key not in going and key not in named and kind not in _NEVER:
            counts[kind.value] = counts.get(kind.value, 0) + 1
    return counts
