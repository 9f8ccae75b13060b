"""The law of collection as a table: what goes, and that everything else stays."""

from dataclasses import replace

import pytest

from des.db.catalog import ContainerState
from des.db.rows import LogSegmentState, Sighting
from des.storage.object_store import ObjectInfo
from des.testing.catalog_rows import container_row, segment_row, tombstone_row
from des.upkeep.gc_plan import (
    Cause,
    Doomed,
    Found,
    GcLimits,
    GcRefusedError,
    check_amount,
    plan_collection,
)

HOUR = 3600 * 1000
NOW = 1_772_236_800_000
OLD = NOW - 25 * HOUR
YOUNG = NOW - HOUR
LIMITS = GcLimits()


def info(key, etag="e", size=10):
    return ObjectInfo(key, size, etag, {}, OLD)


def found(*infos, rows=(), tombstones=(), segments=(), now=NOW, local=NOW):
    return Found(now, local, {one.key: one for one in infos}, rows, tombstones, segments)


def plan(*infos, sightings=(), **rest):
    return plan_collection(found(*infos, **rest), sightings, LIMITS)


def causes(planned):
    return {one.key: one.cause for one in planned.doomed}


def ended(state, since, **changes):
    times = {"retired_ms": since} if state is ContainerState.RETIRED else {"abandoned_ms": since}
    etag = "e" if state is ContainerState.RETIRED else ""
    return container_row(state=state, etag=etag, **times, **changes)


STRANGER = "20260115/0a/0193a000-0000-7000-8000-0000000000ff.des"


@pytest.mark.parametrize("state", [ContainerState.RETIRED, ContainerState.ABANDONED])
def test_an_ended_container_goes_after_the_grace_time_and_not_before(state):
    old = ended(state, OLD)
    assert {old.key: Cause(state.value)} == causes(plan(info(old.key), rows=[old]))
    young = ended(state, YOUNG)
    assert causes(plan(info(young.key), rows=[young])) == {}


@pytest.mark.parametrize("state", [ContainerState.UPLOADING, ContainerState.STORED])
def test_a_live_container_never_goes(state):
    row = container_row(state=state, etag="e", retired_ms=None)
    assert causes(plan(info(row.key), rows=[row])) == {}


def test_another_object_under_a_retired_key_stays():
    row = ended(ContainerState.RETIRED, OLD)
    assert causes(plan(info(row.key, etag="other"), rows=[row])) == {}


def test_an_abandoned_upload_that_lands_after_its_removal_goes_again():
    row = ended(ContainerState.ABANDONED, OLD, removed_ms=OLD)
    assert {row.key: Cause.ABANDONED} == causes(plan(info(row.key), rows=[row]))


def test_an_object_that_is_gone_is_only_recorded_as_gone():
    row = ended(ContainerState.RETIRED, OLD)
    assert (row,) == plan(rows=[row]).gone
    assert plan(rows=[replace(row, removed_ms=NOW)]).gone == ()


def test_a_log_segment_goes_when_released_long_ago():
    row = replace(segment_row(), state=LogSegmentState.RELEASED, shards=(), released_ms=OLD, etag="e")
    assert {row.key: Cause.RELEASED} == causes(plan(info(row.key), segments=[row]))
    assert causes(plan(info(row.key), segments=[replace(row, released_ms=YOUNG)])) == {}
    assert causes(plan(info(row.key), segments=[replace(row, state=LogSegmentState.HELD, shards=(1,))])) == {}


def test_a_big_file_goes_only_with_the_tombstone_that_owns_it():
    name = tombstone_row().name
    key = f"20260228/0a/_bigFiles/{name}.0badcafe"
    own = tombstone_row(external_key=key, deleted_ms=OLD)
    assert {key: Cause.DELETED} == causes(plan(info(key), tombstones=[own]))
    assert causes(plan(info(key), tombstones=[replace(own, deleted_ms=YOUNG)])) == {}
    assert causes(plan(info(key), tombstones=[])) == {}
    other = tombstone_row(2, external_key=key, deleted_ms=OLD)
    assert causes(plan(info(key), tombstones=[other])) == {}
    assert plan(info(key)).kept == {"big file": 1}


def test_an_unknown_container_is_suspect_after_two_sightings_a_day_apart():
    seen = Sighting(STRANGER, "e", 10, OLD, NOW)
    assert [one.key for one in plan(info(STRANGER), sightings=[seen]).suspects] == [STRANGER]
    assert plan(info(STRANGER), sightings=[replace(seen, first_ms=YOUNG)]).suspects == ()
    assert plan(info(STRANGER), sightings=[replace(seen, etag="other")]).suspects == ()
    assert plan(info(STRANGER)).suspects == ()


def test_an_unknown_container_made_today_is_no_suspect():
    made = f"{NOW - HOUR:012x}"
    key = f"20260115/0a/{made[:8]}-{made[8:]}-7000-8000-0000000000ff.des"
    assert plan(info(key), sightings=[Sighting(key, "e", 10, OLD, NOW)]).suspects == ()


def test_foreign_objects_and_unknown_log_segments_stay():
    planned = plan(info("holiday.jpg"), info("_log/n/1/1.dlog"), info("des-store-id"))
    assert (planned.doomed, planned.suspects) == ((), ())
    assert planned.kept == {"foreign": 1, "log segment": 1}


def test_a_listing_without_a_stored_object_is_refused_whole():
    lost = container_row(2, state=ContainerState.STORED, etag="e")
    old = ended(ContainerState.RETIRED, OLD)
    with pytest.raises(GcRefusedError, match="lacks 1 objects"):
        plan(info(old.key), rows=[lost, old])


def test_a_listing_without_a_held_log_segment_is_refused():
    with pytest.raises(GcRefusedError, match="lacks 1 objects"):
        plan(segments=[segment_row()])


@pytest.mark.parametrize("local", [NOW - 2 * HOUR, NOW + 2 * HOUR])
def test_a_clock_that_jumped_is_refused(local):
    with pytest.raises(GcRefusedError, match="clock"):
        plan(local=local)


def test_a_database_clock_that_went_back_is_refused():
    with pytest.raises(GcRefusedError, match="before an earlier sighting"):
        plan(info(STRANGER), sightings=[Sighting(STRANGER, "e", 10, OLD, NOW + 1)])


def test_too_many_objects_or_bytes_are_refused():
    doomed = [Doomed(str(number), "e", 10, Cause.RETIRED) for number in range(11)]
    objects = {one.key: info(one.key) for one in doomed}
    check_amount(doomed, objects, GcLimits(objects_max=11, bytes_max=110))
    with pytest.raises(GcRefusedError, match="11 objects of 110 bytes"):
        check_amount(doomed, objects, GcLimits(objects_max=10))
    with pytest.raises(GcRefusedError, match="at most 1000 objects of 109 bytes"):
        check_amount(doomed, objects, GcLimits(bytes_max=109))
    check_amount(doomed, objects, GcLimits(bytes_max=1, share_max=1.0))
