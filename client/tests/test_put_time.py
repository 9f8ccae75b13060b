"""Storing files: progress, and how long it may take."""

import threading
import time
from types import SimpleNamespace

import pytest
from des_client import (
    DeadlineExceeded,
    DesClient,
    Progress,
    RetryConfig,
)
from stored_puts import BIG, MIB, content


def test_progress_counts_up_to_the_end(des):
    seen = []
    des.put(BIG, on_progress=seen.append)
    assert seen == [Progress(done, len(BIG)) for done in (MIB, 2 * MIB, len(BIG))]
    seen.clear()
    des.put(b"hello", on_progress=seen.append)
    assert seen == [Progress(5, 5)]


def test_progress_of_an_unknown_size_has_no_total(des):
    seen = []
    des.put(iter([BIG]), on_progress=seen.append)
    assert seen[-1] == Progress(len(BIG), None)


def test_what_on_progress_raises_ends_the_put(des, double):
    def stop(progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        des.put(BIG, on_progress=stop)
    assert not double.files


@pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
def test_a_silent_server_ends_a_put_at_its_timeout(des, server, data):
    server.double.fail("PutFile", delay_s=20)
    with pytest.raises(DeadlineExceeded) as failed:
        des.put(data, timeout_s=0.2)
    assert isinstance(failed.value, TimeoutError)
    server.wait_until(lambda double: double.cancelled == 1)


def test_a_server_that_stalls_in_the_middle_ends_a_put(des, double):
    double.fail("PutFile", at_byte=1, stall_s=20)
    with pytest.raises(DeadlineExceeded):
        des.put(bytes(64 * MIB), timeout_s=0.3)


def test_a_call_that_takes_long_to_begin_is_cut_off_as_well(server, monkeypatch):
    # On a busy machine the time can be over before there is a call to cancel: nobody cancelled it then.
    server.double.fail("PutFile", delay_s=100)
    with DesClient(server.target, retry=None) as des:
        stub = des._channels[0].files
        begin = stub.PutFile.future

        def late(*args, **kwargs):
            time.sleep(0.6)
            return begin(*args, **kwargs)

        monkeypatch.setattr(stub, "PutFile", SimpleNamespace(future=late))
        with pytest.raises(DeadlineExceeded):
            # Of unknown size: gRPC itself sets no deadline.
            des.put((bytes(MIB) for _ in range(3)), timeout_s=0.2)


def test_an_attempt_that_stalls_is_given_up_for_another(make_client, double):
    des = make_client(retry=RetryConfig(attempt_timeout_s=0.2, backoff_initial_s=0.001, backoff_max_s=0.001))
    double.fail("PutFile", delay_s=20)
    assert des.put(b"small").file.size_bytes == 5
    double.fail("PutFile", delay_s=20)
    assert content(double, des.put(BIG)) == BIG


def test_the_server_learns_the_deadline(des, double):
    des.put(b"x", timeout_s=7)
    assert 6 < double.deadlines[-1] < 7.1
    des.put(BIG, timeout_s=7)
    assert 16 < double.deadlines[-1] < 7.1 + len(BIG) / (256 << 10)


def test_a_slow_source_that_keeps_moving_is_not_cut_off(des, double):
    pause = threading.Event()

    def slow():
        for _ in range(6):
            pause.wait(0.1)
            yield bytes(MIB)

    assert des.put(slow(), timeout_s=0.4).file.size_bytes == 6 * MIB
