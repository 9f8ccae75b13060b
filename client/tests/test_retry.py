"""Retry decisions and paces, as tables: no clock, no network."""

import math

import pytest
from des_client.errors import DeadlineExceeded, InvalidArgument, NotFound, QuotaExceeded, Unavailable
from des_client.retry import NO_RETRY, TRANSFER_RATE_MIN, Attempts, Pace, RetryConfig


def waits(config, random=1.0, count=10, error=None, remaining_s=math.inf):
    attempts = Attempts(config, lambda: random)
    return [attempts.wait_s(error or Unavailable("x"), remaining_s) for _ in range(count)]


def test_waits_double_up_to_the_ceiling_and_then_end():
    config = RetryConfig(attempts=7, backoff_initial_s=1, backoff_max_s=10)
    assert waits(config, count=7) == [1, 2, 4, 8, 10, 10, None]


def test_attempts_go_on_for_as_long_as_there_is_time():
    config = RetryConfig(backoff_initial_s=1, backoff_max_s=2)
    assert waits(config, count=1000)[-1] == 2
    attempts = Attempts(config, lambda: 1.0)
    left, made = 30.0, 0
    while (wait_s := attempts.wait_s(Unavailable("x"), left)) is not None:
        left, made = left - wait_s, made + 1
    assert (left, made) == (1.0, 15)


def test_a_server_that_never_answered_is_waited_for_a_little_only():
    attempts = Attempts(RetryConfig(backoff_initial_s=1, unreached_s=7), lambda: 1.0)
    final = Unavailable("x")
    found = [attempts.wait_s(final, math.inf, reached=False) for _ in range(3)]
    assert found == [1, 2, None]
    assert final.__notes__ == ["given up after 3 attempts: no server has answered yet"]


@pytest.mark.parametrize("random", [0.0, 0.25, 0.999])
def test_jitter_is_drawn_from_the_whole_wait(random):
    config = RetryConfig(attempts=3, backoff_initial_s=1)
    assert waits(config, random, count=2) == [random, 2 * random]


def test_the_servers_wish_is_never_undercut():
    config = RetryConfig(attempts=3, backoff_initial_s=1)
    error = QuotaExceeded("x", retry_after_s=5)
    assert waits(config, 0.0, count=2, error=error) == [5, 5]
    assert waits(config, 1.0, count=2, error=error) == [6, 7]


def test_a_wait_must_end_before_the_deadline():
    config = RetryConfig(backoff_initial_s=1)
    assert waits(config, count=1, remaining_s=1.001) == [1]
    assert waits(config, count=1, remaining_s=1) == [None]
    assert waits(config, count=1, remaining_s=-1) == [None]


def test_what_will_not_pass_is_final_at_once():
    assert waits(RetryConfig(), count=1, error=NotFound("x")) == [None]
    assert waits(RetryConfig(), count=1, error=QuotaExceeded("x")) == [None]


def test_a_deadline_of_an_attempt_is_worth_another():
    assert waits(RetryConfig(backoff_initial_s=1), count=1, error=DeadlineExceeded("x")) == [1]


def test_no_retry_tries_once():
    assert waits(NO_RETRY, count=1) == [None]


def test_progress_counts_anew():
    attempts = Attempts(RetryConfig(attempts=2, backoff_initial_s=1), lambda: 1.0)
    for _ in range(5):
        assert attempts.wait_s(Unavailable("x"), 100) == 1
        attempts.progressed()
    assert attempts.wait_s(Unavailable("x"), 100) == 1
    final = Unavailable("x")
    assert attempts.wait_s(final, 100) is None
    assert final.__notes__ == ["given up after 7 attempts"]


def test_very_many_attempts_do_not_overflow():
    config = RetryConfig(attempts=5000, backoff_initial_s=1, backoff_max_s=2)
    assert waits(config, count=4999)[-1] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"backoff_initial_s": -1},
        {"backoff_initial_s": 2, "backoff_max_s": 1},
        {"backoff_max_s": math.inf},
        {"backoff_multiplier": 0.5},
        {"backoff_multiplier": math.nan},
        {"attempt_timeout_s": 0},
        {"unreached_s": -1},
        {"unreached_s": math.nan},
    ],
)
def test_senseless_configurations_are_refused(wrong):
    with pytest.raises(InvalidArgument):
        RetryConfig(**wrong)


def test_a_transfer_may_be_silent_for_its_timeout():
    pace = Pace(100, 30, None)
    assert pace.begin(100) == 130
    assert pace.moved(100 * TRANSFER_RATE_MIN, 120) == 150
    assert pace.left_s(150, silent=True) == 0


def test_a_transfer_that_trickles_ends():
    pace = Pace(100, 30, None)
    assert pace.moved(TRANSFER_RATE_MIN, 129) == 131
    assert pace.moved(TRANSFER_RATE_MIN // 2, 130.9) == 131.5


def test_an_attempts_silence_leaves_time_for_another():
    pace = Pace(100, 30, 5)
    assert pace.begin(100) == 105
    assert pace.left_s(105, silent=True) == 25
    assert pace.begin(127) == 130


def test_an_attempts_time_is_never_longer_than_the_calls():
    pace = Pace(100, 30, 60)
    assert pace.begin(100) == 130
    assert pace.left_s(130, silent=True) == 0
