"""Reading many files: requests, parts, order, repeats."""

import itertools

import pytest
from des_client import (
    ChecksumMismatch,
    DeadlineExceeded,
    DesClientError,
    FeatureDisabled,
    FileMissing,
    GetItem,
    InvalidArgument,
    RetryConfig,
    Unavailable,
)
from des_client.read_many import ReadMany
from des_proto.v1 import file_service_pb2
from double_many import status

MIB = 1 << 20


def add(double, count, size=100):
    return [double.add(b"%d;" % number * size) for number in range(count)]


def requests(double):
    return [one for one in double.requests if type(one).__name__ == "BatchReadFilesRequest"]


def test_many_files_come_in_order_over_few_streams(des, double):
    names = add(double, 2_500)
    outcomes = list(des.get_many(names))
    assert [one.index for one in outcomes] == list(range(2_500))
    assert [one.name for one in outcomes] == names
    assert [one.unwrap() for one in outcomes] == [double.files[name].content for name in names]
    assert [one.file for one in outcomes] == [None] * 2_500
    assert double.calls["BatchReadFiles"] <= 4


@pytest.mark.parametrize(("size", "expected"), [(1, 4_000), (4 << 10, 2_048), (64 << 10, 128), (1 << 20, 64)])
def test_a_request_asks_for_about_as_many_bytes_however_long_the_files_are(size, expected):
    plan = ReadMany(
        limits=None,
        verify=False,
        ordered=False,
        with_info=False,
        retry=RetryConfig(),
        random=lambda: 0.5,
        patience_s=1.0,
    )
    for number in range(6_000):
        plan.add(f"name {number}", 0.0)
    assert len(plan.request(0, 0.0).items) == 1_000
    answer = file_service_pb2.BatchReadFilesResponse()
    for index in range(10):
        answer.parts.add(index=index, last=True).chunk.data = bytes(size)
    plan.accept(0, answer, 0.0)
    assert len(plan.request(1, 0.0).items) == expected


def test_nothing_to_get_is_no_stream(des, double):
    assert list(des.get_many([])) == []
    assert double.calls["BatchReadFiles"] == 0


def test_order_is_kept_or_not_as_asked(des, double):
    double.reverse_reads = True
    names = add(double, 6)
    assert [one.index for one in des.get_many(names)] == [0, 1, 2, 3, 4, 5]
    assert [one.index for one in des.get_many(names, ordered=False)] == [5, 4, 3, 2, 1, 0]


def test_files_longer_than_a_message_come_in_parts(des, double):
    double.batch_part_bytes = 1_000
    contents = [b"", b"a", bytes(range(256)) * 40, b"z" * 1_000, b"y" * 1_001]
    names = [double.add(one) for one in contents]
    assert [one.unwrap() for one in des.get_many(names)] == contents


def test_ranges_keys_and_facts(des, double):
    name = double.add(b"0123456789", content_type="text/plain")
    items = [
        GetItem(name, offset=2, limit=3, key="a"),
        GetItem(name, offset=-2, key="b"),
        name,
        GetItem(name, offset=10),
    ]
    outcomes = list(des.get_many(items, with_info=True))
    assert [one.unwrap() for one in outcomes] == [b"234", b"89", b"0123456789", b""]
    assert [one.key for one in outcomes] == ["a", "b", None, None]
    assert {one.file.content_type for one in outcomes} == {"text/plain"}


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(InvalidArgument):
        GetItem("x", limit=0)


def test_one_bad_item_never_fails_the_rest(des, double):
    good = double.add(b"good")
    bad = ["DES_20260115_(000000000000_00)", "\ud800", 42]
    outcomes = list(des.get_many([good, *bad, good]))
    assert outcomes[0].unwrap() == outcomes[-1].unwrap() == b"good"
    assert isinstance(outcomes[1].error, FileMissing)
    assert isinstance(outcomes[2].error, InvalidArgument)
    assert isinstance(outcomes[3].error, (TypeError, AttributeError))
    with pytest.raises(FileNotFoundError):
        outcomes[1].unwrap()


def test_a_broken_stream_asks_again_only_for_what_did_not_come(des, double):
    names = add(double, 20)
    double.fail("BatchReadFiles", code="UNAVAILABLE", at_byte=8)
    assert [one.index for one in des.get_many(names)] == list(range(20))
    first, second = requests(double)
    assert [one.name for one in second.items] == names[8:]
    assert len(first.items) == 20


def test_a_stream_that_ends_early_is_a_broken_one(des, double):
    names = add(double, 20)
    double.fail("BatchReadFiles", end_early=True, at_byte=5)
    assert [one.error for one in des.get_many(names)] == [None] * 20


def test_a_stream_that_keeps_breaking_ends_the_call(make_client, double):
    des = make_client(retry=RetryConfig(attempts=3, backoff_initial_s=0, backoff_max_s=0))
    names = add(double, 2)
    double.fail("BatchReadFiles", code="UNAVAILABLE", times=10)
    with pytest.raises(Unavailable):
        list(des.get_many(names))
    assert double.calls["BatchReadFiles"] == 3


def test_a_server_without_batches_says_so(des, double):
    double.fail("BatchReadFiles", code="UNIMPLEMENTED", reason="FEATURE_DISABLED")
    with pytest.raises(FeatureDisabled):
        list(des.get_many(add(double, 1)))


@pytest.mark.parametrize("what", ["flip_chunk", "flip_file"])
def test_changed_bytes_are_never_handed_out(des, double, what):
    names = add(double, 3)
    double.fail("BatchReadFiles", **{what: True})
    outcomes = list(des.get_many(names, with_info=True))
    assert {type(one.error) for one in outcomes} == {ChecksumMismatch}
    assert {one.data for one in outcomes} == {None}


def test_an_item_that_can_be_tried_again_is(des, double):
    names = add(double, 3)
    double.refuse_items[names[0]] = [
        status("UNAVAILABLE", "NOT_SHARD_OWNER", "moved", retry_after_s=0.05)
    ] * 2
    assert [one.index for one in des.get_many(names)] == [0, 1, 2]
    assert [len(one.items) for one in requests(double)] == [3, 1, 1]


def test_an_item_is_not_tried_for_ever(make_client, double):
    des = make_client(retry=RetryConfig(attempts=2, backoff_initial_s=0, backoff_max_s=0))
    names = add(double, 2)
    double.refuse_items[names[1]] = [status("UNAVAILABLE", "SERVER_BUSY", "busy")] * 5
    first, second = des.get_many(names)
    assert first.error is None
    assert isinstance(second.error, Unavailable)


def test_too_much_waiting_for_one_file_fetches_that_one_alone(des, double):
    double.reverse_reads = True
    names = [double.add(bytes([number]) * MIB) for number in range(60)]
    outcomes = list(des.get_many(names))
    assert [one.unwrap()[0] for one in outcomes] == list(range(60))
    assert double.calls["GetFile"] >= 1


def test_an_endless_list_of_names_is_pulled_only_as_far_as_needed(des, double):
    (name,) = add(double, 1)
    pulled = itertools.count()
    outcomes = des.get_many(name for _ in pulled)
    for _ in range(10):
        next(outcomes)
    assert next(pulled) < 8_000
    outcomes.close()


def test_a_silent_server_ends_the_call(make_client, double):
    des = make_client(retry=None)
    names = add(double, 2)
    double.fail("BatchReadFiles", at_byte=1, stall_s=30)
    with pytest.raises(DeadlineExceeded):
        list(des.get_many(names, timeout_s=0.3))


def test_progress_is_told(des, double):
    told = []
    names = add(double, 3, size=1)
    list(des.get_many([*names, "missing"], on_progress=told.append))
    assert (told[-1].done_files, told[-1].failed_files, told[-1].done_bytes) == (3, 1, 6)


def test_several_connections_share_the_work(make_client, double):
    double.limits.max_batch_items = 10
    des = make_client(channels=3)
    assert len(list(des.get_many(add(double, 200)))) == 200
    assert len(set(double.streams_seen)) == 3


def test_requests_obey_the_limits(des, double):
    double.limits.max_batch_items = 7
    list(des.get_many(add(double, 30)))
    assert max(len(one.items) for one in requests(double)) == 7


# --- names -----------------------------------------------------------------------------------------


def test_stat_many_answers_every_name_in_order(des, double):
    names = add(double, 2_300)
    asked = [*names, "missing", names[0]]
    outcomes = list(des.stat_many(asked))
    assert [one.name for one in outcomes] == asked
    assert [one.index for one in outcomes] == list(range(2_302))
    assert outcomes[0].unwrap().size_bytes == 200
    assert isinstance(outcomes[-2].error, FileMissing)
    assert double.calls["BatchStatFiles"] == 3


def test_names_that_cannot_be_answered_now_are_asked_again(make_client, double):
    des = make_client(retry=RetryConfig(attempts=3, backoff_initial_s=0, backoff_max_s=0))
    names = add(double, 3)
    away = status("UNAVAILABLE", "NOT_SHARD_OWNER", "moved", retry_after_s=0.01)
    double.refuse_items[names[1]] = [away]
    double.refuse_items[names[2]] = [away] * 9
    outcomes = list(des.stat_many(names))
    assert [one.error is None for one in outcomes] == [True, True, False]
    assert [list(one.names) for one in double.requests[-2:]] == [names[1:], names[2:]]


def test_a_deleted_file_is_gone(des, double):
    one, two = add(double, 2)
    des.delete(one)
    with pytest.raises(FileMissing):
        des.get(one)
    with pytest.raises(FileMissing) as failed:
        des.delete(one)
    assert failed.value.reason == "FILE_DELETED"
    des.delete(one, allow_missing=True)
    assert des.exists(two)


def test_a_delete_whose_answer_was_lost_is_done(des, double):
    (name,) = add(double, 1)
    double.fail("DeleteFile", code="UNAVAILABLE", after_effect=True)
    des.delete(name)
    assert double.calls["DeleteFile"] == 2


def test_deletes_whose_answer_was_lost_are_done(des, double):
    *names, before = add(double, 4)
    des.delete(before)
    double.fail("BatchDeleteFiles", code="UNAVAILABLE", after_effect=True)
    outcomes = list(des.delete_many([*names, "missing"]))
    assert [one.error is None for one in outcomes] == [True, True, True, False]
    assert double.calls["BatchDeleteFiles"] == 2
    # The next call, which is not repeated, says what it finds.
    assert [one.error is None for one in des.delete_many([before])] == [False]


def test_delete_many_answers_every_name(des, double):
    names = add(double, 3)
    outcomes = list(des.delete_many([*names, "missing"]))
    assert [one.error is None for one in outcomes] == [True, True, True, False]
    assert [one.error for one in des.delete_many(["missing"], allow_missing=True)] == [None]
    assert not any(des.exists(name) for name in names)


def test_wait_stored_takes_one_name_or_many(des, double):
    names = add(double, 2)
    assert [one.unwrap().state for one in des.wait_stored(names)] == ["stored", "stored"]
    (only,) = des.wait_stored(names[0])
    assert only.name == names[0]
    double.fail("WaitStored", delay_s=20)
    with pytest.raises(DeadlineExceeded):
        des.wait_stored(names, timeout_s=0.2)


def test_a_name_that_is_no_text_is_refused_before_any_call(des, double):
    for call in (
        lambda: list(des.stat_many(["\ud800"])),
        lambda: list(des.delete_many(["\ud800"])),
        lambda: des.delete("\ud800"),
        lambda: des.wait_stored(["\ud800"]),
    ):
        with pytest.raises((InvalidArgument, DesClientError)):
            call()
    assert double.calls.total() == double.calls["GetServerInfo"]


def test_many_attempts_do_not_outlast_the_timeout(make_client, double):
    des = make_client(retry=RetryConfig(attempts=10**6, backoff_initial_s=0.01, backoff_max_s=0.02))
    (name,) = add(double, 1)
    double.fail("BatchReadFiles", code="UNAVAILABLE", times=10_000)
    # The last error, or silence: whichever the clock meets first.
    with pytest.raises((Unavailable, DeadlineExceeded)):
        list(des.get_many([name], timeout_s=0.4))
    double._faults.clear()
    double.refuse_items[name] = [status("UNAVAILABLE", "SERVER_BUSY", "busy") for _ in range(10_000)]
    for call in (des.get_many, des.stat_many):
        (outcome,) = call([name], timeout_s=0.4)
        assert isinstance(outcome.error, Unavailable)
