"""Storing many files: messages, windows, outcomes, repeats."""

import io
import itertools
import threading
import time
import uuid

import pytest
from des_client import (
    ClientClosed,
    DeadlineExceeded,
    Durability,
    FeatureDisabled,
    InvalidArgument,
    NameConflict,
    PutItem,
    RetryConfig,
    Unavailable,
)
from des_client.write_items import Sizes, request_ids
from des_client.write_many import WriteMany
from des_proto.v1.file_service_pb2 import BatchWriteFilesResponse
from double_many import status

MIB = 1 << 20


def messages(double):
    return [one for one in double.requests if type(one).__name__ == "BatchWriteFilesRequest"]


def contents(double):
    return sorted(one.content for one in double.files.values())


def test_many_small_files_are_few_messages(des, double):
    items = [b"%d" % number * 100 for number in range(5_000)]
    outcomes = list(des.put_many(items))
    assert [one.index for one in outcomes] == list(range(5_000))
    assert all(one.error is None for one in outcomes)
    assert [double.files[one.unwrap().file.name].content for one in outcomes] == items
    assert double.calls["BatchWriteFiles"] == 1
    assert len(messages(double)) <= 20
    assert double.calls["PutFile"] == 0


def test_nothing_to_put_is_no_stream(des, double):
    assert list(des.put_many([])) == []
    assert double.calls["BatchWriteFiles"] == 0


def test_messages_obey_the_limits_counted_serialized(des, double):
    double.limits.max_batch_message_bytes = 100_000
    double.limits.max_batch_items = 7
    items = [bytes(size) for size in [0, 1, 30_000, 80_000, 87_000, 99_000, 3, 150_000] * 4]
    outcomes = list(des.put_many(PutItem(one, metadata={"öwner": "ü" * 50}, key=len(one)) for one in items))
    assert [one.key for one in outcomes] == [len(one) for one in items]
    assert [len(double.files[one.unwrap().file.name].content) for one in outcomes] == list(map(len, items))
    for message in messages(double):
        assert message.ByteSize() <= 100_000
        assert len(message.items) <= 7


@pytest.mark.parametrize("limit", [1_000, 5_000, 70_000, MIB, 2 * MIB])
def test_no_message_is_longer_than_the_limit_whatever_the_items(des, double, limit):
    double.limits.max_batch_message_bytes = limit
    sizes = [0, 1, 127, 128, limit // 3, limit // 2, limit - limit // 8, limit - limit // 8 + 1, limit] * 3
    outcomes = list(des.put_many(PutItem(bytes(one), content_type="x" * 100) for one in sizes))
    assert [one.unwrap().file.size_bytes for one in outcomes] == sizes
    assert max(one.ByteSize() for one in messages(double)) <= limit


def test_every_item_says_its_own(des, double):
    (name,) = des.assign_names(1)
    outcomes = list(
        des.put_many(
            [
                b"bare",
                PutItem(
                    b"named", name=name.name, content_type="text/plain", metadata={"a": "b"}, key=("k", 1)
                ),
                PutItem(b"prefixed", prefix="OWN"),
            ],
            prefix="CALL",
            durability=Durability.LOCAL,
        )
    )
    bare, named, prefixed = (one.unwrap().file for one in outcomes)
    assert bare.name.startswith("CALL_")
    assert named.name == name.name
    assert (named.content_type, named.metadata) == ("text/plain", {"a": "b"})
    assert prefixed.name.startswith("OWN_")
    assert [one.key for one in outcomes] == [None, ("k", 1), None]
    (message,) = messages(double)
    assert [one.spec.durability for one in message.items] == [1, 1, 1]
    assert [bool(one.spec.request_id) for one in message.items] == [True, False, True]
    assert [one.spec.prefix for one in message.items] == ["CALL", "", "OWN"]


def test_data_may_be_a_path_a_file_or_pieces(des, double, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"from a path")
    outcomes = list(
        des.put_many([path, PutItem(io.BytesIO(b"from a file")), [b"from ", b"pieces"], bytearray(b"array")])
    )
    assert all(one.error is None for one in outcomes)
    assert contents(double) == [b"array", b"from a file", b"from a path", b"from pieces"]


def test_one_bad_item_never_fails_the_rest(des, double, tmp_path):
    (name,) = des.assign_names(1)
    des.put(b"first", name=name.name)
    bad = [
        (tmp_path / "missing", FileNotFoundError),
        ("a str", TypeError),
        (42, TypeError),
        (PutItem(b"other", name=name.name), NameConflict),
        (PutItem(b"x", content_type="\ud800"), InvalidArgument),
        (PutItem(b"x", metadata={"a": 1}), (TypeError, AttributeError)),
        (PutItem(b"x", name="", key="empty"), InvalidArgument),
        (PutItem(b"x", name="a", prefix="b"), InvalidArgument),
    ]
    items = [b"good 1", *(item for item, _ in bad), b"good 2"]
    outcomes = list(des.put_many(items))
    assert outcomes[0].unwrap().file.size_bytes == outcomes[-1].unwrap().file.size_bytes == 6
    for outcome, (item, kind) in zip(outcomes[1:-1], bad, strict=True):
        assert isinstance(outcome.error, kind), item
        assert outcome.result is None
        with pytest.raises(kind):
            outcome.unwrap()


def test_what_the_iterator_itself_raises_ends_the_call(des, double):
    def broken():
        yield b"one"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(des.put_many(broken()))


def test_a_large_file_takes_a_stream_of_its_own(des, double):
    large = bytes(3 * MIB)
    outcomes = list(des.put_many([b"a", large, PutItem(large + b"x", prefix="BIG", key=7), b"b"]))
    assert [one.unwrap().file.size_bytes for one in outcomes] == [1, 3 * MIB, 3 * MIB + 1, 1]
    assert outcomes[2].unwrap().file.name.startswith("BIG_")
    assert double.calls["PutFile"] == 2
    assert double.calls["BatchWriteFiles"] == 1


def test_a_large_file_that_fails_is_its_own_failure(des, double):
    double.fail("PutFile", code="FAILED_PRECONDITION", reason="SHARD_READ_ONLY")
    outcomes = list(des.put_many([b"a", bytes(3 * MIB), b"b"]))
    assert [one.error is None for one in outcomes] == [True, False, True]


def test_a_broken_stream_sends_again_only_what_was_not_acknowledged_with_the_same_ids(make_client, double):
    double.limits.max_batch_items = 10
    des = make_client()
    double.fail("BatchWriteFiles", code="UNAVAILABLE", at_byte=50)
    items = [b"%d" % number for number in range(200)]
    outcomes = list(des.put_many(items))
    assert [double.files[one.unwrap().file.name].content for one in outcomes] == items
    assert double.calls["BatchWriteFiles"] == 2
    sent = {}
    for message in messages(double):
        for one in message.items:
            sent.setdefault(int(one.chunk.data), []).append(one.spec.request_id)
    assert all(len(set(ids)) == 1 for ids in sent.values())
    # The first 40 were acknowledged; the ten of the lost answer were there already.
    again = {number for number, ids in sent.items() if len(ids) > 1}
    assert again >= set(range(40, 50))
    assert not again & set(range(40))
    assert [one.index for one in outcomes if one.unwrap().already_existed] == list(range(40, 50))
    assert len(double.files) == 200


def test_a_stream_that_keeps_breaking_ends_the_call(make_client, double):
    des = make_client(retry=RetryConfig(attempts=3, backoff_initial_s=0, backoff_max_s=0))
    double.fail("BatchWriteFiles", code="UNAVAILABLE", times=10)
    with pytest.raises(Unavailable) as failed:
        list(des.put_many([b"x"]))
    assert double.calls["BatchWriteFiles"] == 3
    assert failed.value.attempts == 3


def test_progress_between_breaks_counts_anew(make_client, double):
    double.limits.max_batch_items = 1
    des = make_client(retry=RetryConfig(attempts=3, backoff_initial_s=0, backoff_max_s=0))
    double.fail("BatchWriteFiles", code="UNAVAILABLE", at_byte=2, times=8)
    assert len(list(des.put_many([b"%d" % number for number in range(12)]))) == 12


def test_a_server_without_batches_says_so(des, double):
    double.fail("BatchWriteFiles", code="UNIMPLEMENTED", reason="FEATURE_DISABLED")
    with pytest.raises(FeatureDisabled):
        list(des.put_many([b"x"]))


def test_an_item_that_can_be_tried_again_is_and_the_servers_wait_is_kept(des, double):
    busy = status("UNAVAILABLE", "SHARD_BACKPRESSURE", "busy", retry_after_s=0.05)
    double.refuse_items[b"slow"] = [busy, busy]
    outcomes = list(des.put_many([b"slow", b"fast"]))
    assert [one.error for one in outcomes] == [None, None]
    ids = {one.spec.request_id for message in messages(double) for one in message.items if one.index == 0}
    assert len(ids) == 1


def test_an_item_is_not_tried_for_ever(make_client, double):
    des = make_client(retry=RetryConfig(attempts=3, backoff_initial_s=0, backoff_max_s=0))
    double.refuse_items[b"never"] = [status("UNAVAILABLE", "SERVER_BUSY", "busy") for _ in range(9)]
    first, second = des.put_many([b"never", b"ok"])
    assert isinstance(first.error, Unavailable)
    assert second.error is None
    assert len(double.refuse_items[b"never"]) == 6


def test_outcomes_come_in_order_or_as_they_come(des, double):
    busy = status("UNAVAILABLE", "SHARD_BACKPRESSURE", "busy", retry_after_s=0.2)
    double.refuse_items[b"0"] = [busy]
    items = [b"%d" % number for number in range(5)]
    assert [one.index for one in des.put_many(items)] == [0, 1, 2, 3, 4]
    double.refuse_items[b"0"] = [busy]
    assert [one.index for one in des.put_many(items, ordered=False)] == [1, 2, 3, 4, 0]


def test_an_endless_source_is_pulled_only_as_far_as_the_window(des, double):
    double.limits.max_batch_message_bytes = 100_000
    pulled = itertools.count()
    outcomes = des.put_many(bytes([next(pulled) % 256]) * 10_000 for _ in itertools.repeat(None))
    for _ in range(50):
        next(outcomes)
    # Eight messages of 100,000 bytes on their way, and what an answer and a round of pulling bring.
    assert next(pulled) < 50 + 80 + 20 + 3 * 256
    outcomes.close()


def test_a_slow_source_does_not_hold_back_what_it_gave(des, server):
    arrived = threading.Event()

    def slow():
        yield b"first"
        time.sleep(0.2)
        yield b"second"
        arrived.wait(20)
        yield b"third"

    outcomes = des.put_many(slow())
    threading.Thread(
        target=lambda: (server.wait_until(lambda double: double.files, 15), arrived.set()), daemon=True
    ).start()
    assert next(outcomes).index == 0
    assert [one.index for one in outcomes] == [1, 2]


def test_a_silent_server_ends_the_call(make_client, double):
    des = make_client(retry=None)
    double.fail("BatchWriteFiles", at_byte=1, stall_s=30)
    with pytest.raises(DeadlineExceeded):
        list(des.put_many([b"x"], timeout_s=0.3))


def test_progress_is_told_and_may_end_the_call(des, double):
    told = []
    list(des.put_many([b"abc", b"de", "bad"], on_progress=told.append))
    assert (told[-1].done_files, told[-1].failed_files, told[-1].done_bytes) == (2, 1, 5)

    def stop(_):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        list(des.put_many([b"x"], on_progress=stop))


def test_leaving_early_ends_the_stream(des, server):
    outcomes = des.put_many(bytes(1000) for _ in range(100_000))
    next(outcomes)
    outcomes.close()
    assert len(server.double.files) < 100_000


def test_closing_the_client_ends_the_call(make_client, server):
    des = make_client()
    server.double.fail("BatchWriteFiles", at_byte=1, stall_s=30)
    ended = []

    def run():
        try:
            list(des.put_many([b"x"]))
        except ClientClosed as failed:
            ended.append(failed)

    thread = threading.Thread(target=run)
    thread.start()
    server.wait_until(lambda double: double.calls["BatchWriteFiles"], 15)
    des.close()
    thread.join(15)
    assert len(ended) == 1


def test_without_verify_no_checksum_is_sent(make_client, double):
    list(make_client(verify=False).put_many([b"x"]))
    (item,) = messages(double)[0].items
    assert not item.chunk.HasField("crc32c")
    assert not item.HasField("checksums")


def test_several_connections_share_the_work(make_client, double):
    double.limits.max_batch_items = 1
    des = make_client(channels=3)
    assert len(list(des.put_many([b"%d" % number for number in range(60)]))) == 60
    assert double.calls["BatchWriteFiles"] == 3
    assert len(set(double.streams_seen)) == 3


def test_request_ids_are_version_4_uuids_and_differ():
    ids = list(itertools.islice(request_ids(), 1_000))
    assert len(set(ids)) == 1_000
    parsed = [uuid.UUID(one) for one in ids]
    assert {one.version for one in parsed} == {4}
    assert {one.variant for one in parsed} == {uuid.RFC_4122}
    assert [str(one) for one in parsed] == ids


def test_sizes_stay_below_what_the_server_told():
    class Told:
        max_batch_message_bytes = 0
        max_message_bytes = 40_000
        max_batch_items = 0
        max_chunk_bytes = 10_000

    assert Sizes.of(Told) == Sizes(40_000, 2_000, 10_000)


def test_many_attempts_do_not_outlast_the_timeout(make_client, double):
    # As the command line retries: by time, not by number.
    des = make_client(retry=RetryConfig(attempts=10**6, backoff_initial_s=0.01, backoff_max_s=0.02))
    double.fail("BatchWriteFiles", code="UNAVAILABLE", times=10_000)
    # The last error, or silence: whichever the clock meets first.
    with pytest.raises((Unavailable, DeadlineExceeded)):
        list(des.put_many([b"x"], timeout_s=0.4))
    double.refuse_items[b"never"] = [status("UNAVAILABLE", "SERVER_BUSY", "busy") for _ in range(10_000)]
    double._faults.clear()
    (outcome,) = des.put_many([b"never"], timeout_s=0.4)
    assert isinstance(outcome.error, Unavailable)


def test_progress_tells_what_refused_files_wait_for(des, double):
    double.refuse_items[b"full"] = [status("RESOURCE_EXHAUSTED", "DISK_FULL", "no room", retry_after_s=0.05)]
    seen = []
    outcomes = list(des.put_many([b"one", b"full"], on_progress=seen.append))
    assert [one.error for one in outcomes] == [None, None]
    told = [one.waiting_for.reason for one in seen if one.waiting_for is not None]
    assert told[0] == "DISK_FULL"
    assert seen[-1].waiting_for is None


def test_a_server_that_stores_nothing_is_waited_for_once_in_all():
    plan = WriteMany(
        prefix="",
        durability=None,
        sizes=Sizes.of(None),
        streams=1,
        verify=False,
        ordered=False,
        ids=request_ids(),
        retry=RetryConfig(),
        random=lambda: 0.5,
        patience_s=60,
    )

    def answer(now, refusal):
        (item,) = plan.take(0, now, flush=True).items
        response = BatchWriteFilesResponse()
        result = response.results.add(index=item.index)
        if refusal:
            result.status.CopyFrom(status("RESOURCE_EXHAUSTED", "DISK_FULL", "no room", retry_after_s=30))
        else:
            result.file.name = "X"
        plan.accept(0, response, now)
        return [one.error and one.error.reason for one in plan.drain()]

    def put(now, refusal=True):
        plan.add(b"x", b"x", now)
        return answer(now, refusal)

    assert put(0) == []
    assert answer(31, refusal=True) == ["DISK_FULL"]
    assert put(31) == put(32) == ["DISK_FULL"]  # not another minute for each window of files
    assert put(33, refusal=False) == [None]
    assert put(34) == []
    assert answer(70, refusal=False) == [None]
    assert put(71) == []
    assert answer(102, refusal=True) == ["DISK_FULL"]
    assert put(1000) == []  # another time
