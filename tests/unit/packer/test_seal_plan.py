"""When open files become containers, as tables."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from des.config import SealSettings
from des.db.catalog import ShardRun
from des.ingest.open_index import BucketCounts
from des.packer.seal_plan import SealPlan, SealReason, day_end_ms, plan_request, plan_seals

DAY = 20261123
NOON = day_end_ms(DAY) - 12 * 3_600_000
SETTINGS = SealSettings(size_bytes=1000, entries=50, age_s=600, day_grace_s=60, useful_bytes=100)


def plan(
    buckets: list[BucketCounts],
    now_ms: int = NOON,
    fullness: float = 0.0,
) -> list[SealPlan]:
    return plan_seals(buckets, now_ms=now_ms, shard_bits=3, settings=SETTINGS, fullness=fullness)


def bucket(shard: int, data_bytes: int, *, files: int = 1, age_s: float = 0, day: int = DAY) -> BucketCounts:
    return BucketCounts(day, shard, files, data_bytes, NOON - int(age_s * 1000))


def test_nothing_is_due_while_little_and_young() -> None:
    assert plan([bucket(0, 999, files=49, age_s=599)]) == []


@pytest.mark.parametrize(
    ("held", "reason"),
    [(bucket(5, 1000), SealReason.SIZE), (bucket(5, 10, files=50), SealReason.ENTRIES)],
)
def test_a_shard_that_is_large_gets_its_own_container(held: BucketCounts, reason: SealReason) -> None:
    assert plan([held, bucket(4, 5)]) == [SealPlan(DAY, ShardRun(5, 1, 3), reason)]


def test_quiet_shards_share_one_container() -> None:
    held = [bucket(shard, 10, age_s=600 if shard == 6 else 1) for shard in range(8)]
    assert plan(held) == [SealPlan(DAY, ShardRun(0, 8, 3), SealReason.AGE)]


def test_a_run_is_halved_until_a_half_is_useful() -> None:
    held = [bucket(shard, 40, age_s=600) for shard in range(8)]
    assert [seal.run for seal in plan(held)] == [ShardRun(first, 2, 3) for first in (0, 2, 4, 6)]


def test_a_half_in_which_nothing_is_due_waits() -> None:
    held = [bucket(0, 80, age_s=600), bucket(7, 80, age_s=1)]
    assert plan(held) == [SealPlan(DAY, ShardRun(0, 4, 3), SealReason.AGE)]


def test_a_day_is_sealed_after_its_grace() -> None:
    end = day_end_ms(DAY)
    held = [BucketCounts(DAY, 1, 1, 10, end - 1000)]
    assert plan(held, now_ms=end + 59_999) == []
    assert plan(held, now_ms=end + 60_000) == [SealPlan(DAY, ShardRun(0, 8, 3), SealReason.DAY_ROLL)]


def test_latecomers_of_an_old_day_wait_for_each_other() -> None:
    late = BucketCounts(20261101, 1, 1, 10, NOON)
    assert plan([late], now_ms=NOON + 59_999) == []
    assert plan([late], now_ms=NOON + 60_000) != []


def test_days_are_never_mixed() -> None:
    held = [bucket(0, 10, age_s=600), bucket(0, 10, age_s=600, day=20261122)]
    assert [seal.day for seal in plan(held)] == [20261122, DAY]


def test_what_holds_up_the_old_end_of_a_full_log_is_sealed_all_of_it() -> None:
    held = [
        bucket(0, 900, age_s=90),
        bucket(5, 2, age_s=61),
        bucket(6, 900, age_s=59),
        bucket(7, 900, age_s=1),
    ]
    assert plan(held, fullness=0.75) == []
    assert plan(held, fullness=0.751) == [
        SealPlan(DAY, ShardRun(0, 1, 3), SealReason.BUDGET),
        SealPlan(DAY, ShardRun(4, 2, 3), SealReason.BUDGET),
    ]
    assert [seal.run.first for seal in plan(held, fullness=1.0)] == [0, 4, 6]


def test_a_shard_asked_for_takes_its_quiet_neighbours_along() -> None:
    held = [
        bucket(0, 10),
        bucket(3, 10),
        bucket(7, 90),
        bucket(3, 10, day=20261122),
        bucket(5, 9, day=20261101),
    ]
    assert plan_request(held, shards=[3], shard_bits=3, useful_bytes=100) == [
        SealPlan(20261122, ShardRun(0, 8, 3), SealReason.REQUEST),
        SealPlan(DAY, ShardRun(0, 4, 3), SealReason.REQUEST),
    ]
    assert plan_request(held, shards=[6], shard_bits=3, useful_bytes=100) == []


@given(
    st.lists(
        st.builds(
            bucket,
            st.integers(0, 7),
            st.integers(0, 2000),
            files=st.integers(1, 80),
            age_s=st.floats(0, 2000),
            day=st.sampled_from([20261121, 20261122, DAY]),
        ),
        unique_by=lambda held: (held.day, held.shard),
    ),
    st.floats(0, 2),
)
def test_no_shard_of_a_day_is_in_two_plans_and_all_that_is_due_is_in_one(
    held: list[BucketCounts], fullness: float
) -> None:
    plans = plan(held, fullness=fullness)
    for one in held:
        covering = [seal for seal in plans if seal.day == one.day and one.shard in seal.run]
        assert len(covering) <= 1 or one.data_bytes >= 1000 or one.files >= 50
        if NOON - one.oldest_ms >= 600_000 or one.data_bytes >= 1000 or one.files >= 50:
            assert covering


def test_the_end_of_a_day_is_the_start_of_the_next() -> None:
    expected = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC).timestamp() * 1000
    assert expected == day_end_ms(DAY)
