"""What a node looks at to know how it is. What a failure means for callers stands with each check.

A database or an object store that is away stops no node from taking files: their log does. So none of the
two takes a node out of service; who did that would turn the failure of one part into one of the whole.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from des.cluster.lock_reading import LockReading
from des.config import LogSettings, Settings
from des.db.catalog import Catalog
from des.ingest.log import IngestLog
from des.packer.health import CheckState, HealthCheck, Reading, Stops
from des.packer.multi_shard_packer import MultiShardPacker
from des.packer.seal_plan import BUDGET_HIGH
from des.storage.disk import Disk
from des.storage.identity import identity_key
from des.storage.object_store import NoSuchObjectError, ObjectStore

ROOM_MIN: Final = 1 << 20
"""Bytes left in the last segment that still count as room for writes."""

DATABASE_ADVICE: Final = "check that the database runs, catalog_url, and the network between"
STORE_ADVICE: Final = "check that the object store runs, its credentials, and the network between"
LOCKS_ADVICE: Final = "locks are renewed in the database: see the check database"
SOURCES_ADVICE: Final = "check that the source's database runs, its configuration, and the network between"
LOG_FULL_ADVICE: Final = (
    "files wait to be sealed: see the checks database and object_store, or raise the limits of the log"
)
LOG_FAILED_ADVICE: Final = (
    "look at the disk and the kernel's messages, then restart the server: a start recovers the log"
)
LOG_ROOM_ADVICE: Final = (
    "free disk, or raise its quota: the server looks every few seconds, and opens its log by itself"
)
BACKGROUND_ADVICE: Final = (
    "it goes on by itself; the server's log has the trace of the error, which belongs into a report of it"
)
DISK_ADVICE: Final = "free disk, or move the data folder to a larger one; log.reserve_free_bytes is kept free"


def database_check(catalog: Catalog) -> HealthCheck:
    """Ask the catalog for its time: one round trip."""

    async def look() -> Reading:
        await catalog.now_ms()
        return Reading(CheckState.OK, "answers")

    return HealthCheck("database", look, DATABASE_ADVICE)


def object_store_check(store: ObjectStore, object_prefix: str) -> HealthCheck:
    """Ask for the object that says whose store it is: one HEAD."""
    key = identity_key(object_prefix)

    async def look() -> Reading:
        try:
            await store.head(key)
        except NoSuchObjectError:
            return Reading(
                CheckState.DEGRADED,
                f"answers, but has no {key!r}: not written to yet, or not the store it was",
                "check object_store and object_prefix; a start writes the object where the store is new",
            )
        return Reading(CheckState.OK, "answers")

    return HealthCheck("object_store", look, STORE_ADVICE)


def locks_check(read: Callable[[], LockReading]) -> HealthCheck:
    """Compare the locks that a node holds with those that it knows to be still its own. No request."""

    async def look() -> Reading:
        locks = read()
        if locks.lapsed:
            return Reading(CheckState.FAILED, f"{locks.lapsed} of {locks.held} locks are not renewed in time")
        return Reading(CheckState.OK, f"{locks.held} held")

    return HealthCheck("shard_locks", look, LOCKS_ADVICE)


def sources_check(troubles: Callable[[], Mapping[str, str]]) -> HealthCheck:
    """Say which source databases did not answer last time. No request: packing asks them all the time."""

    async def look() -> Reading:
        found = troubles()
        if found:
            told = "; ".join(f"{name}: {error}" for name, error in sorted(found.items()))
            return Reading(CheckState.DEGRADED, told)
        return Reading(CheckState.OK, "every source answers")

    return HealthCheck("sources", look, SOURCES_ADVICE)


def background_check(broken: Callable[[], Mapping[str, str]]) -> HealthCheck:
    """Say which of the node's own work met an error that nobody foresaw. No request."""

    async def look() -> Reading:
        if found := broken():
            told = "; ".join(f"{name}: {error}" for name, error in sorted(found.items()))
            return Reading(CheckState.DEGRADED, f"broke and began again: {told}")
        return Reading(CheckState.OK, "all of it runs")

    return HealthCheck("background", look, BACKGROUND_ADVICE)


def log_check(log: IngestLog, packer: MultiShardPacker, settings: LogSettings) -> HealthCheck:
    """Compare what the log holds with what it may hold. No request."""

    async def look() -> Reading:
        if log.failure is not None:
            advice = LOG_ROOM_ADVICE if log.room_needed_bytes else LOG_FAILED_ADVICE
            return Reading(CheckState.FAILED, str(log.failure), advice)
        fill = log.fill
        whose = " that the disk has room for" if fill.bytes_limit < fill.bytes_max else ""
        used = (
            f"{fill.bytes_used >> 20:,} of {fill.bytes_limit >> 20:,} MiB{whose} and "
            f"{fill.records:,} of {fill.records_max:,} records used"
        )
        no_segment = fill.bytes_used + int(settings.segment_bytes) > fill.bytes_max
        if fill.records >= fill.records_max or (no_segment and log.room_bytes < _room_min(settings)):
            return Reading(CheckState.FAILED, f"full, writes are refused: {used}")
        if error := packer.seal_error:
            return Reading(CheckState.DEGRADED, f"a seal fails and is repeated: {error}; {used}")
        if fill.fullness > BUDGET_HIGH:
            return Reading(CheckState.DEGRADED, f"nearly full: {used}")
        return Reading(CheckState.OK, used)

    return HealthCheck("log_backlog", look, LOG_FULL_ADVICE, Stops.WRITES)


def disk_check(disk: Disk, log: IngestLog, settings: LogSettings) -> HealthCheck:
    """Ask the file system how much is free; one that hangs is asked once, not in every round."""
    reserve, segment = int(settings.reserve_free_bytes), int(settings.segment_bytes)
    asking: list[asyncio.Future[int]] = []

    async def look() -> Reading:
        if not asking:
            asking.append(asyncio.ensure_future(asyncio.to_thread(disk.free_bytes)))
        await asyncio.wait(asking)  # which leaves it running when the time is over
        free = asking.pop().result()
        room = f"{free >> 20:,} MiB free"
        if free - segment < reserve:
            if log.room_bytes < _room_min(settings):
                return Reading(CheckState.FAILED, f"full, writes are refused: {room}")
            return Reading(CheckState.DEGRADED, f"no room for another segment of the log: {room}")
        if free < reserve + int(settings.budget_bytes) - log.bytes_used:
            return Reading(CheckState.DEGRADED, f"the log may grow beyond the disk: {room}")
        return Reading(CheckState.OK, room)

    return HealthCheck("disk", look, DISK_ADVICE, Stops.WRITES)


def _room_min(settings: LogSettings) -> int:
    return min(ROOM_MIN, int(settings.segment_bytes) // 8)


def checks_of(
    settings: Settings,
    *,
    catalog: Catalog,
    store: ObjectStore,
    disk: Disk,
    log: IngestLog,
    packer: MultiShardPacker,
    locks: Callable[[], LockReading],
    broken: Callable[[], Mapping[str, str]],
    troubles: Callable[[], Mapping[str, str]] | None,
) -> list[HealthCheck]:
    """Return the checks of a node; `troubles` tells of source databases, None where there are none."""
    checks = [
        database_check(catalog),
        object_store_check(store, settings.object_prefix),
        locks_check(locks),
        log_check(log, packer, settings.log),
        disk_check(disk, log, settings.log),
        background_check(broken),
    ]
    if troubles is not None:
        checks.append(sources_check(troubles))
    return checks
