"""Names, shards, server info, and what every call has in common."""

import gc
import threading
import time
from datetime import timedelta

import pytest
from des_client import (
    ClientClosed,
    DeadlineExceeded,
    DesClientError,
    DiskFull,
    FailedPrecondition,
    FeatureDisabled,
    FileState,
    Internal,
    InvalidArgument,
    NotFound,
    QuotaExceeded,
    RetryConfig,
    ShardState,
    Unavailable,
)
from des_double import RunningDouble

MIB = 1 << 20


def test_names_are_assigned_with_their_shard_and_day(des, double):
    names = des.assign_names(3, prefix="ABC")
    assert len({one.name for one in names}) == 3
    assert all(one.name.startswith("ABC_20260115_(") for one in names)
    assert [(one.shard_id, one.day) for one in names] == [(7, "2026-01-15")] * 3


def test_a_lost_reply_gives_the_same_names_again(des, double):
    double.fail("AssignName", code="UNAVAILABLE", after_effect=True, times=2)
    names = des.assign_names(2)
    assert double.calls["AssignName"] == 3
    assert list(double.names_by_request.values()) == [[one.name for one in names]]


def test_a_callers_request_id_gives_the_same_names(des):
    assert des.assign_names(2, request_id="mine") == des.assign_names(2, request_id="mine")


@pytest.mark.parametrize("count", [0, -1, 1 << 31])
def test_a_senseless_count_is_refused_before_any_call(des, double, count):
    with pytest.raises(InvalidArgument):
        des.assign_names(count)
    assert not double.calls


def test_too_many_names_are_the_servers_to_refuse(des):
    with pytest.raises(InvalidArgument, match="too many") as failed:
        des.assign_names(1001)
    assert failed.value.metadata == {"field": "count"}
    assert failed.value.request_id == "server-made-id"


def test_shard_status_follows_the_pages(des, double):
    shards = des.shard_status()
    assert [one.shard_id for one in shards] == [0, 1, 2, 3, 4]
    assert double.calls["ShardStatus"] == 3
    assert shards[0].state is ShardState.ACTIVE
    assert shards[0].oldest_open_age == timedelta(seconds=1.5)
    assert shards[0].last_seal_time is None


def test_some_shards_keep_being_asked_for_on_every_page(des):
    assert [one.shard_id for one in des.shard_status(iter([1, 3, 4]))] == [1, 3, 4]


def test_no_shards_are_no_call(des, double):
    assert des.shard_status([]) == []
    assert not double.calls


def test_an_unknown_shard_is_not_found_but_no_file(des):
    with pytest.raises(NotFound) as failed:
        des.shard_status([99])
    assert not isinstance(failed.value, FileNotFoundError)


def test_a_server_that_pages_in_circles_is_left(des, double):
    double.page_size = 0
    with pytest.raises(Internal, match="came twice"):
        des.shard_status()


def test_sealing_gives_the_containers(des, double):
    double.fail("SealShard", code="UNAVAILABLE")
    result = des.seal_shard(4)
    assert result.shard.shard_id == 4
    assert [one.file_count for one in result.containers] == [3]
    ids = {one.request_id for one in double.requests}
    assert len(ids) == 1


def test_a_negative_shard_is_refused_before_any_call(des, double):
    for call in (des.seal_shard, lambda one: des.shard_status([one])):
        with pytest.raises(InvalidArgument):
            call(-1)
    assert not double.calls


def test_server_info_is_asked_once(des, double):
    info = des.server_info()
    assert des.server_info() is info
    assert double.calls["GetServerInfo"] == 1
    assert des.server_info(refresh=True) == info
    assert double.calls["GetServerInfo"] == 2
    assert info.api_versions == ("des.v1",)
    assert info.features == {"batch"}
    assert info.limits.preferred_chunk_bytes == MIB
    assert info.limits.upload_ttl is None


def test_a_state_this_client_does_not_know_is_unknown(des, double):
    name = double.add(b"")
    double.files[name].info.state = 77
    assert des.stat(name).state is FileState.UNKNOWN


def test_every_call_has_a_deadline(des, double):
    des.stat(double.add(b""))
    des.assign_names(timeout_s=5)
    assert 29 < double.deadlines[0] < 30.1
    assert 4 < double.deadlines[1] < 5.1


def test_a_silent_server_ends_a_call_at_its_timeout(des, double):
    double.fail("StatFile", delay_s=20)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        des.stat("x", timeout_s=0.2)
    assert time.monotonic() - started < 1


def test_an_attempt_may_be_shorter_than_the_call(make_client, double):
    des = make_client(retry=RetryConfig(attempt_timeout_s=0.2, backoff_initial_s=0, backoff_max_s=0))
    name = double.add(b"")
    double.fail("StatFile", delay_s=20, times=2)
    assert des.stat(name).size_bytes == 0
    assert double.calls["StatFile"] == 3


def test_retries_stay_within_the_deadline(make_client, double):
    des = make_client(retry=RetryConfig(attempts=10**6, backoff_initial_s=0.02, backoff_max_s=0.02))
    double.fail("StatFile", code="UNAVAILABLE", times=10_000)
    started = time.monotonic()
    # The deadline may also pass in the middle of an attempt.
    with pytest.raises((Unavailable, DeadlineExceeded)):
        des.stat("x", timeout_s=0.4)
    assert 0.2 < time.monotonic() - started < 1


def test_a_retry_waits_as_long_as_the_server_asks(des, double):
    name = double.add(b"")
    double.fail("StatFile", code="UNAVAILABLE", reason="SERVER_BUSY", retry_after_s=0.3)
    started = time.monotonic()
    des.stat(name)
    assert time.monotonic() - started >= 0.3


def test_a_wait_that_outlasts_the_deadline_is_not_begun(des, double):
    double.fail("StatFile", code="UNAVAILABLE", reason="SERVER_BUSY", retry_after_s=60)
    started = time.monotonic()
    with pytest.raises(Unavailable) as failed:
        des.stat("x", timeout_s=5)
    assert time.monotonic() - started < 1
    assert failed.value.retry_after_s == 60
    assert failed.value.reason == "SERVER_BUSY"


@pytest.mark.parametrize(
    ("fault", "error", "attempts"),
    [
        ({"code": "UNAVAILABLE"}, Unavailable, 6),
        ({"code": "UNAVAILABLE", "reason": "NOT_SHARD_OWNER", "retry_after_s": 0}, Unavailable, 6),
        ({"code": "RESOURCE_EXHAUSTED", "reason": "QUOTA_EXCEEDED", "retry_after_s": 0}, QuotaExceeded, 6),
        ({"code": "RESOURCE_EXHAUSTED", "reason": "QUOTA_EXCEEDED"}, QuotaExceeded, 1),
        ({"code": "RESOURCE_EXHAUSTED", "reason": "DISK_FULL", "retry_after_s": 0.001}, DiskFull, 6),
        ({"code": "FAILED_PRECONDITION", "reason": "SHARD_READ_ONLY"}, FailedPrecondition, 1),
        ({"code": "INTERNAL", "reason": "INTERNAL"}, Internal, 1),
        ({"code": "INTERNAL"}, Internal, 1),
        ({"code": "INTERNAL", "message": "Received RST_STREAM with error code 2"}, Unavailable, 6),
        ({"code": "UNIMPLEMENTED", "reason": "FEATURE_DISABLED"}, FeatureDisabled, 1),
    ],
)
def test_only_what_can_pass_is_tried_again(des, double, fault, error, attempts):
    double.fail("SealShard", times=10, **fault)
    with pytest.raises(error):
        des.seal_shard(1)
    assert double.calls["SealShard"] == attempts


def test_retry_none_tries_once(make_client, double):
    des = make_client(retry=None)
    name = double.add(b"x")
    for call, method in (
        (lambda: des.stat(name), "StatFile"),
        (lambda: des.get(name), "GetFile"),
        (lambda: des.put(b"x"), "PutFile"),
        (lambda: des.put(bytes(2 * MIB)), "PutFile"),
    ):
        double.calls.clear()
        double.fail(method, code="UNAVAILABLE")
        with pytest.raises(Unavailable) as failed:
            call()
        assert double.calls[method] == 1
        assert not hasattr(failed.value, "__notes__")


def test_a_server_that_comes_back_is_found_again(make_client, server):
    des = make_client(retry=RetryConfig(attempts=50, backoff_initial_s=0.05, backoff_max_s=0.1))
    name = server.double.add(b"x")
    assert des.get(name) == b"x"
    server.stop_serving()
    threading.Timer(0.4, server.serve_again).start()
    assert des.get(name) == b"x"
    assert des.put(b"y").file.size_bytes == 1


def test_by_default_a_server_that_is_away_for_many_attempts_is_waited_for(make_client, double):
    des = make_client(retry=RetryConfig(backoff_initial_s=0.001, backoff_max_s=0.002))
    name = double.add(b"x")
    for call, method in (
        (lambda: des.stat(name), "StatFile"),
        (lambda: des.get(name), "GetFile"),
        (lambda: des.put(b"y"), "PutFile"),
        (lambda: des.put(bytes(2 * MIB)), "PutFile"),
        (lambda: list(des.put_many([b"z"])), "BatchWriteFiles"),
        (lambda: list(des.get_many([name])), "BatchReadFiles"),
    ):
        double.fail(method, times=20, code="UNAVAILABLE")
        call()


def test_who_was_never_reached_is_told_long_before_the_calls_time_is_over(make_client):
    retry = RetryConfig(backoff_initial_s=0.01, backoff_max_s=0.01, unreached_s=0.05)
    des = make_client("127.0.0.1:1", retry=retry, timeout_s=3600)
    for call in (
        lambda: des.stat("x"),
        lambda: des.get("x"),
        lambda: des.put(b"x"),
        lambda: des.put(bytes(2 * MIB)),
        lambda: list(des.put_many([b"x"])),
        lambda: list(des.get_many(["x"])),
    ):
        with pytest.raises(Unavailable) as failed:
            call()
        assert "no server has answered yet" in failed.value.__notes__[-1]


def test_nobody_there_is_unavailable(make_client):
    des = make_client("127.0.0.1:1", retry=RetryConfig(attempts=2, backoff_initial_s=0))
    for call in (lambda: des.stat("x"), lambda: des.get("x"), lambda: des.put(b"x")):
        with pytest.raises(Unavailable) as failed:
            call()
        assert isinstance(failed.value, ConnectionError)


def test_several_targets_are_asked_in_turn(make_client, server):
    second = RunningDouble()
    try:
        des = make_client([server.target, second.target])
        for _ in range(6):
            des.exists("x")
        assert server.double.calls["StatFile"] == second.double.calls["StatFile"] == 3
        second.stop_serving()
        for _ in range(4):
            des.exists("x")
    finally:
        second.close()


def test_headers_and_token_go_with_every_call(make_client, double):
    des = make_client(metadata={"tenant": "blue"}, token="secret")
    name = des.put(b"x").file.name
    des.put(bytes(2 * MIB))
    des.get(name)
    des.stat(name)
    assert {(one["tenant"], one["authorization"]) for one in double.headers} == {("blue", "Bearer secret")}
    assert len(double.headers) == 5


def test_a_closed_client_says_so(make_client):
    des = make_client()
    des.exists("x")
    des.close()
    for call in (lambda: des.stat("x"), lambda: des.get("x"), lambda: des.put(b"x")):
        with pytest.raises(ClientClosed):
            call()
    des.close()


@pytest.mark.parametrize("method", ["StatFile", "GetFile", "PutFile", "PutFile big"])
def test_closing_ends_calls_under_way(make_client, server, method):
    des = make_client()
    name = server.double.add(b"x")
    server.double.fail(method.split()[0], delay_s=20)
    ended = []

    def call():
        try:
            {
                "StatFile": lambda: des.stat(name),
                "GetFile": lambda: des.get(name),
                "PutFile": lambda: des.put(b"x"),
                "PutFile big": lambda: des.put(bytes(3 * MIB)),
            }[method]()
        except DesClientError as failed:
            ended.append(type(failed))

    thread = threading.Thread(target=call)
    thread.start()
    server.wait_until(lambda double: double.calls[method.split()[0]])
    des.close()
    thread.join(5)
    assert ended == [ClientClosed]


def test_closing_ends_a_wait_for_the_next_attempt(make_client, server):
    des = make_client(timeout_s=1000)
    # A wait that the server asks for is never undercut; one of the client's own may be drawn as zero.
    server.double.fail("StatFile", code="UNAVAILABLE", retry_after_s=20)
    ended = []

    def call():
        with pytest.raises(ClientClosed):
            des.stat("x")
        ended.append(True)

    thread = threading.Thread(target=call)
    thread.start()
    server.wait_until(lambda double: double.calls["StatFile"])
    time.sleep(0.05)
    des.close()
    thread.join(5)
    assert ended


def test_many_threads_share_a_client(make_client, double):
    des = make_client(channels=2)
    failures = []

    def work(number):
        try:
            data = bytes([number]) * (number * 100_000)
            for _ in range(5):
                assert des.get(des.put(data).file.name) == data
        except BaseException as failed:
            failures.append(failed)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert failures == []
    gc.collect()
