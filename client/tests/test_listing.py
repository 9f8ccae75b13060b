"""Listing files, following shards."""

from datetime import UTC, datetime, timedelta

import pytest
from des_client import FilePage, InvalidArgument, RetryConfig, Unavailable
from des_proto.v1 import types_pb2

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def test_a_listing_follows_its_pages(des, double):
    names = sorted(double.add(b"%d" % number) for number in range(10))
    assert [one.name for one in des.list()] == names
    assert double.calls["ListFiles"] == 4
    assert list(des.iter_names()) == names
    pages = list(des.list(page_size=4).pages())
    assert [len(one.files) for one in pages] == [4, 4, 2]
    assert pages[-1].next_page_token == ""
    assert all(isinstance(one, FilePage) for one in pages)


def test_a_listing_goes_on_at_a_token(des, double):
    names = sorted(double.add(b"%d" % number) for number in range(10))
    first = next(iter(des.list(page_size=4).pages()))
    rest = [file.name for page in des.list(page_size=4).pages(first.next_page_token) for file in page.files]
    assert rest == names[4:]


def test_nothing_is_asked_before_a_listing_is_iterated(des, double):
    des.list()
    assert double.calls["ListFiles"] == 0
    assert list(des.list()) == []


def test_a_listing_says_what_is_wanted(des, double):
    list(
        des.list(
            day="2026-01-15",
            shard_ids=[3, 4],
            prefix="DES",
            created_after=NOON,
            created_before=NOON + timedelta(microseconds=1),
            show_deleted=True,
            with_metadata=True,
            page_size=7,
        )
    )
    (request,) = double.requests
    assert (request.day, list(request.shard_ids), request.prefix, request.page_size) == (
        "2026-01-15",
        [3, 4],
        "DES",
        7,
    )
    assert request.created_after.ToDatetime(UTC) == NOON
    assert request.created_before.nanos == 1000
    assert (request.show_deleted, request.view) == (True, 2)


def test_names_alone_are_asked_for_alone(des, double):
    names = sorted(double.add(b"%d" % number) for number in range(5))
    assert list(des.iter_names(page_size=2)) == names
    assert {request.view for request in double.requests} == {types_pb2.FILE_VIEW_NAME}


def test_arguments_that_make_no_sense_are_refused_before_any_call(des, double):
    for wrong in (
        {"page_size": -1},
        {"shard_ids": [-1]},
        {"prefix": "\ud800"},
        {"created_after": datetime(2026, 1, 1)},  # noqa: DTZ001  that is the point
        {"timeout_s": 0},
    ):
        with pytest.raises(InvalidArgument):
            des.list(**wrong)
    assert not double.calls


def test_a_bad_token_is_an_error(des, double):
    with pytest.raises(InvalidArgument) as failed:
        list(des.list().pages("bad"))
    assert failed.value.reason == "PAGE_TOKEN_INVALID"


def test_a_page_that_fails_is_asked_for_again(des, double):
    double.add(b"x")
    double.fail("ListFiles", code="UNAVAILABLE", times=2)
    assert len(list(des.iter_names())) == 1


# --- shards ----------------------------------------------------------------------------------------


def test_a_watch_gives_a_snapshot_then_changes_and_no_heartbeats(des, double):
    double.watch_script = [[([0, 1], 5, True), ([], 6, False), ([1], 7, False)]]
    watch = des.watch_shards([0, 1], min_interval=timedelta(milliseconds=100))
    first, second = next(watch), next(watch)
    assert ([one.shard_id for one in first.shards], first.revision, first.snapshot) == ([0, 1], 5, True)
    assert ([one.shard_id for one in second.shards], second.revision, second.snapshot) == ([1], 7, False)
    assert double.requests[0].min_interval.ToMilliseconds() == 100
    watch.close()


def test_a_watch_that_breaks_goes_on_from_its_last_revision(des, double):
    double.watch_script = [[([0], 5, True), ([], 6, False)], [([1], 8, False)]]
    watch = des.watch_shards()
    assert [next(watch).revision, next(watch).revision] == [5, 8]
    assert [one.start_revision for one in double.requests] == [0, 6]
    watch.close()


def test_a_watch_whose_revision_was_forgotten_starts_with_a_snapshot(des, double):
    double.fail("WatchShardStatus", code="OUT_OF_RANGE", reason="WATCH_REVISION_COMPACTED")
    double.watch_script = [[([0], 50, True)]]
    watch = des.watch_shards(start_revision=3)
    assert next(watch).snapshot
    assert [one.start_revision for one in double.requests] == [3, 0]
    watch.close()


def test_a_watch_whose_node_stays_away_begins_anew_at_one_that_answers(make_client, double):
    des = make_client(retry=RetryConfig(attempts=3, backoff_initial_s=0, backoff_max_s=0))
    double.fail("WatchShardStatus", code="UNAVAILABLE", times=2)
    double.fail("WatchShardStatus", code="OUT_OF_RANGE", reason="WATCH_REVISION_COMPACTED")
    double.watch_script = [[([0], 50, True)]]
    watch = des.watch_shards(start_revision=3)
    assert next(watch).snapshot
    assert [one.start_revision for one in double.requests] == [3, 3, 3, 0]
    watch.close()


def test_a_watch_gives_up_when_the_server_stays_away(make_client, double):
    des = make_client(retry=RetryConfig(attempts=3, backoff_initial_s=0, backoff_max_s=0))
    double.fail("WatchShardStatus", code="UNAVAILABLE", times=9)
    with pytest.raises(Unavailable):
        next(des.watch_shards())
    assert double.calls["WatchShardStatus"] == 3


def test_a_silent_watch_is_begun_again(make_client, double):
    des = make_client(retry=RetryConfig(attempts=2, backoff_initial_s=0, backoff_max_s=0))
    with pytest.raises(Unavailable, match="silent"):
        next(des.watch_shards(timeout_s=0.2))
    assert double.calls["WatchShardStatus"] == 2
