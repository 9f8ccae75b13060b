"""Round robin that leaves out connections which failed just now."""

from des_client.turns import REST_FIRST_S, REST_MAX_S, Turns


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def made(count=3):
    clock = Clock()
    return Turns(count, clock), clock


def test_connections_are_asked_in_turn():
    turns, _ = made()
    assert [turns.next() for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_some_connections_have_turns_of_their_own():
    turns, _ = made()
    picked = [(turns.next(), turns.next((0, 2))) for _ in range(4)]
    assert picked == [(0, 0), (1, 2), (2, 0), (0, 2)]


def test_one_that_failed_is_left_out_and_then_tried_by_one_call_at_a_time():
    turns, clock = made()
    turns.failed(1)
    assert {turns.next() for _ in range(6)} == {0, 2}
    clock.now += REST_FIRST_S
    assert [turns.next() for _ in range(6)].count(1) == 1
    turns.worked(1)
    assert [turns.next() for _ in range(6)].count(1) == 2


def test_the_preferred_one_is_left_out_too_and_all_others_take_its_place():
    turns, clock = made()
    turns.failed(1)
    assert {turns.next((1,)) for _ in range(6)} == {0, 2}
    clock.now += REST_FIRST_S
    assert turns.next((1,)) == 1
    assert turns.next((1,)) in {0, 2}


def test_rests_grow_and_have_a_limit():
    turns, clock = made(2)
    rests = []
    for _ in range(8):
        turns.failed(0)
        began = clock.now
        while 0 not in {turns.next(), turns.next()}:
            clock.now += REST_FIRST_S / 4
        rests.append(clock.now - began)
        clock.now += REST_MAX_S  # the trial's own rest
    assert rests[:4] == [REST_FIRST_S, 2 * REST_FIRST_S, 4 * REST_FIRST_S, 8 * REST_FIRST_S]
    assert rests[-1] == REST_MAX_S


def test_calls_that_fail_together_are_one_failure():
    turns, clock = made(2)
    for _ in range(32):
        turns.failed(0)
    clock.now += REST_FIRST_S
    assert 0 in {turns.next(), turns.next()}


def test_when_all_failed_all_are_asked_in_turn():
    turns, _ = made()
    for at in range(3):
        turns.failed(at)
    assert {turns.next() for _ in range(6)} == {0, 1, 2}
