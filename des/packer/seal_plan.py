"""When open files become containers, and which shards share one: a pure decision (DESIGN §4)."""

import datetime
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from des.config import SealSettings
from des.db.catalog import ShardRun
from des.ingest.open_index import BucketCounts

Within: TypeAlias = Callable[[ShardRun], bool]
"""Whether this node may seal a run of shards: whether it owns them all."""

BUDGET_HIGH: Final = 0.75
"""Share of what the log may hold from which the oldest files are sealed to make room."""
BUDGET_LOW: Final = 0.5
"""Share that such sealing aims for."""


class SealReason(StrEnum):
    """Why a seal is due."""

    SIZE = "size"
    ENTRIES = "entries"
    AGE = "age"
    DAY_ROLL = "day_roll"
    BUDGET = "budget"
    REQUEST = "request"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class SealPlan:
    """One container to make: all that `run` holds of `day`."""

    day: int
    run: ShardRun
    reason: SealReason


def plan_seals(
    buckets: Sequence[BucketCounts],
    *,
    now_ms: int,
    shard_bits: int,
    settings: SealSettings,
    fullness: float,
    within: Within = lambda _: True,
) -> list[SealPlan]:
    """Return the seals that are due, oldest day first; of shards that neighbours own, none.

    A shard that is large enough by itself gets its own container. Where something is due by age, day
    or budget, it is sealed together with its neighbours: the run of shards is halved until a half holds
    no more than `useful_bytes`. `fullness` is that of the log, or of another room that open files take.
    """
    plans: list[SealPlan] = []
    due: dict[int, dict[int, SealReason]] = defaultdict(dict)
    days: dict[int, dict[int, BucketCounts]] = defaultdict(dict)
    for bucket in buckets:
        if not within(ShardRun(bucket.shard, 1, shard_bits)):
            continue
        if bucket.data_bytes >= settings.size_bytes:
            plans.append(SealPlan(bucket.day, ShardRun(bucket.shard, 1, shard_bits), SealReason.SIZE))
        elif bucket.files >= settings.entries:
            plans.append(SealPlan(bucket.day, ShardRun(bucket.shard, 1, shard_bits), SealReason.ENTRIES))
        else:
            days[bucket.day][bucket.shard] = bucket
            reason = _reason_by_time(bucket, now_ms=now_ms, settings=settings)
            if reason is not None:
                due[bucket.day][bucket.shard] = reason
    for bucket in _beyond_budget(days, now_ms=now_ms, fullness=fullness):
        due[bucket.day].setdefault(bucket.shard, SealReason.BUDGET)
    whole = ShardRun(0, 1 << shard_bits, shard_bits)
    for day, reasons in due.items():
        plans += _merge_neighbours(
            day, whole, days[day], reasons, useful_bytes=settings.useful_bytes, within=within
        )
    return sorted(plans, key=lambda plan: (plan.day, plan.run.first))


def plan_request(
    buckets: Sequence[BucketCounts],
    *,
    shards: Collection[int],
    shard_bits: int,
    useful_bytes: int,
    within: Within = lambda _: True,
) -> list[SealPlan]:
    """Return the seals that store all that `shards` hold, oldest day first; quiet neighbours join in."""
    whole = ShardRun(0, 1 << shard_bits, shard_bits)
    return [
        plan
        for day in sorted({bucket.day for bucket in buckets if bucket.shard in shards})
        for plan in _merge_neighbours(
            day,
            whole,
            {bucket.shard: bucket for bucket in buckets if bucket.day == day},
            dict.fromkeys(shards, SealReason.REQUEST),
            useful_bytes=useful_bytes,
            within=within,
        )
    ]


def _reason_by_time(bucket: BucketCounts, *, now_ms: int, settings: SealSettings) -> SealReason | None:
    # A file that comes after its day has ended waits for the grace time too, so that latecomers share.
    rolled_ms = max(day_end_ms(bucket.day), bucket.oldest_ms) + int(settings.day_grace_s * 1000)
    if now_ms >= rolled_ms:
        return SealReason.DAY_ROLL
    if now_ms >= bucket.oldest_ms + int(settings.age_s * 1000):
        return SealReason.AGE
    return None


def _beyond_budget(
    days: dict[int, dict[int, BucketCounts]], *, now_ms: int, fullness: float
) -> Iterable[BucketCounts]:
    """Return what holds up the oldest part of a log that is too full.

    The log is given up from its old end, and every part of it has files of most shards: sealing some of
    them, however many, frees nothing. So all are due that have a file in the part which has to go, if the
    log grew evenly.
    """
    waiting = [bucket for shards in days.values() for bucket in shards.values()]
    if fullness <= BUDGET_HIGH or not waiting:
        return []
    begins_ms = min(bucket.oldest_ms for bucket in waiting)
    stop_ms = begins_ms + (now_ms - begins_ms) * (1 - BUDGET_LOW / fullness)
    return [bucket for bucket in waiting if bucket.oldest_ms <= stop_ms]


def _merge_neighbours(
    day: int,
    run: ShardRun,
    held: dict[int, BucketCounts],
    reasons: dict[int, SealReason],
    *,
    useful_bytes: int,
    within: Within,
) -> list[SealPlan]:
    inside = [bucket for shard, bucket in held.items() if shard in run]
    reason = next((reasons[bucket.shard] for bucket in inside if bucket.shard in reasons), None)
    if reason is None:
        return []
    small = sum(bucket.data_bytes for bucket in inside) <= useful_bytes
    if run.span == 1 or (small and within(run)):
        return [SealPlan(day, run, reason)]
    half = run.span // 2
    return [
        plan
        for first in (run.first, run.first + half)
        for plan in _merge_neighbours(
            day, ShardRun(first, half, run.bits), held, reasons, useful_bytes=useful_bytes, within=within
        )
    ]


def day_end_ms(day: int) -> int:
    """Return the first UTC millisecond after `day` (YYYYMMDD).

    >>> day_end_ms(19700101)
    86400000
    """
    date = datetime.date(day // 10_000, day // 100 % 100, day % 100)
    return (date.toordinal() - _EPOCH_ORDINAL + 1) * 86_400_000


_EPOCH_ORDINAL: Final = datetime.date(1970, 1, 1).toordinal()
