"""Clients of several nodes that ask the owners of shards directly: two doubles that share their files."""

import time

import pytest
from des_client import FileMissing, NameConflict, RetryConfig, Unavailable
from des_client.owners import shard_of
from des_double import MIB, RunningDouble
from des_proto.v1 import types_pb2

LARGE = bytes(range(256)) * 4096 * 9


def owner_of(name):
    """Every other shard of 256 is the one's."""
    return "one" if shard_of(name, 8) % 2 else "two"


@pytest.fixture
def pair(server):
    other = RunningDouble()
    one, two = server.double, other.double
    one.node, two.node = "one", "two"
    one.shard_bits = two.shard_bits = 8
    for shared in ("files", "deleted", "uploads", "finished_uploads", "names_by_request"):
        setattr(two, shared, getattr(one, shared))
    one.owner_of = two.owner_of = owner_of
    yield server, other
    other.close()


@pytest.fixture
def targets(pair):
    return [running.target for running in pair]


def sent_on(pair):
    return sum(running.double.sent_on for running in pair)


def long(name):
    return f"L{name}"


def names(count=8):
    """Names whose shards, and those of the long ones beside them, are all different."""
    shards, found, number = set(), [], 0
    while len(found) < count:
        number += 1
        name = f"N_20260115_({number:012X}_{number % 256:02X})"
        two = {shard_of(name, 8), shard_of(long(name), 8)}
        if len(two) == 2 and not two & shards:
            shards |= two
            found.append(name)
    return found


def calls(des, name):
    des.put(b"x", name=name)
    assert des.get(name) == b"x"
    assert des.stat(name).name == name
    assert [one.unwrap().state for one in des.wait_stored(name)] == ["stored"]
    des.put(bytes(MIB + 1), name=long(name))  # in several messages


def settle(pair, work):
    """Work until no call is sent on any more; return how often that took."""
    for turn in range(1, 10):
        before = sent_on(pair)
        work()
        if sent_on(pair) == before:
            return turn
    raise AssertionError("calls are still sent on")


def test_known_owners_are_asked_directly(make_client, pair, targets):
    des = make_client(targets)
    assert settle(pair, lambda: [calls(des, name) for name in names()]) > 1
    before = sent_on(pair)
    for name in names():
        des.delete(name)
        with pytest.raises(FileMissing):
            des.get(name)
    assert sent_on(pair) == before


def test_without_following_calls_take_turns_and_nobody_is_asked_who_it_is(make_client, pair, targets):
    des = make_client(targets, follow=False)
    for _ in range(3):
        before = sent_on(pair)
        for name in names(6):
            calls(des, name)
        assert sent_on(pair) > before
    assert [running.double.asked_who for running in pair] == [0, 0]


def test_one_connection_has_no_roads_to_choose_from(make_client, pair, targets):
    des = make_client(targets[0])
    for name in names(4):
        calls(des, name)
    assert getattr(des, "client", des)._roads is None
    assert pair[0].double.asked_who == 0
    assert not any("des-follow" in headers for headers in pair[0].double.headers)


def test_nodes_that_say_nothing_are_asked_in_turn_as_ever(make_client, pair, targets):
    """Of a version before, or no cluster at all."""
    for running in pair:
        running.double.node = ""
    des = make_client(targets)
    for _ in range(10):
        for name in names(3):
            assert not des.exists(name)
    assert [running.double.calls["StatFile"] for running in pair] == [15, 15]
    assert all(0 < running.double.asked_who <= 3 for running in pair)


def test_one_old_node_among_new_ones_is_never_stuck_to(make_client, pair, targets):
    """It sends calls on without a word, so what it answers may be anybody's."""
    old, new = pair
    old.double.node = ""
    des = make_client(targets)
    for _ in range(8):
        for name in names(4):
            des.put(b"x", name=name)
    assert old.double.calls["PutFile"] > 4
    assert new.double.calls["PutFile"] >= 16


def test_a_shard_that_moves_is_followed(make_client, pair, targets):
    des = make_client(targets)
    settle(pair, lambda: [calls(des, name) for name in names(6)])
    for running in pair:
        running.double.owner_of = lambda name: "two" if owner_of(name) == "one" else "one"
    before = sent_on(pair)
    for name in names(6):
        des.put(b"x", name=name)
    assert sent_on(pair) - before == 6
    before = sent_on(pair)
    for name in names(6):
        calls(des, name)
    assert sent_on(pair) - before <= 6  # the long files' shards, once each


def test_an_answer_that_is_an_error_teaches_too(make_client, pair, targets):
    des = make_client(targets)
    name = next(name for name in names() if owner_of(name) == "two")
    des.put(b"x", name=name)
    settle(pair, lambda: [des.stat(name) for _ in range(4)])
    before = sent_on(pair)
    for _ in range(4):
        with pytest.raises(NameConflict):
            des.put(b"yy", name=name)
    assert sent_on(pair) == before
    other = next(one for one in names() if owner_of(one) == "two" and one != name)
    for _ in range(4):
        with pytest.raises(FileMissing):
            des.get(other)
    assert sent_on(pair) <= before + 1


def test_reads_of_a_stored_file_are_spread_over_all_nodes(make_client, pair, targets):
    des = make_client(targets)
    name = names(1)[0]
    settle(pair, lambda: calls(des, name))
    pair[0].double.files[name].info.state = types_pb2.FILE_STATE_STORED
    for running in pair:
        running.double.owner_of = lambda _name, node=running.double.node: node  # each reads it itself
    before = [running.double.calls["GetFile"] for running in pair]
    for _ in range(40):
        des.get(name)
    counts = [running.double.calls["GetFile"] - was for running, was in zip(pair, before, strict=True)]
    assert min(counts) >= 10


def test_an_owner_that_is_away_costs_one_attempt_and_is_found_again(make_client, pair, targets):
    # Many attempts, for the server that comes back; each call needs two at most.
    des = make_client(targets, retry=RetryConfig(attempts=20, backoff_initial_s=0.01, backoff_max_s=0.2))
    names_of_two = [name for name in names(8) if owner_of(name) == "two"]
    settle(pair, lambda: [calls(des, name) for name in names(8)])
    pair[1].stop_serving()
    before = pair[0].double.calls["StatFile"]
    for name in names_of_two * 3:
        assert des.exists(name)
    assert pair[0].double.calls["StatFile"] - before == 3 * len(names_of_two)
    pair[1].serve_again()
    ends_at = time.monotonic() + 40
    while True:
        before = sent_on(pair)
        for name in names_of_two:
            des.put(b"x", name=name)
        if sent_on(pair) == before:
            break
        assert time.monotonic() < ends_at, "the node that came back is not followed again"
        time.sleep(0.05)


def test_a_shard_between_two_owners_is_no_reason_to_leave_its_node_out(make_client, pair, targets):
    des = make_client(targets, retry=None)
    name = next(name for name in names() if owner_of(name) == "two")
    settle(pair, lambda: [des.put(b"x", name=name) for _ in range(4)])
    pair[1].double.fail("PutFile", code="UNAVAILABLE", reason="NOT_SHARD_OWNER", retry_after_s=0)
    with pytest.raises(Unavailable):
        des.put(b"x", name=name)
    before = pair[1].double.calls["PutFile"]
    des.put(b"x", name=name)
    assert pair[1].double.calls["PutFile"] == before + 1


def test_the_second_attempt_takes_its_turn(make_client, pair, targets):
    des = make_client(targets)
    name = next(name for name in names() if owner_of(name) == "two")
    settle(pair, lambda: [des.put(b"x", name=name) for _ in range(4)])
    before = [running.double.calls["PutFile"] for running in pair]
    pair[1].double.fail("PutFile", code="UNAVAILABLE", reason="NOT_SHARD_OWNER", retry_after_s=0, times=1)
    des.put(b"x", name=name)
    total = sum(running.double.calls["PutFile"] for running in pair)
    assert total == sum(before) + 2


def test_an_upload_stays_at_its_node(make_client, pair, targets):
    for running in pair:
        running.double.features = ["batch", "resumable_uploads"]
    des = make_client(targets)
    settle(pair, lambda: [calls(des, name) for name in names(4)])
    for _ in range(4):
        before = [dict(running.double.calls) for running in pair]
        des.put(LARGE)
        grown = [
            {method: count - was.get(method, 0) for method, count in running.double.calls.items()}
            for running, was in zip(pair, before, strict=True)
        ]
        assert all(each.get("StartUpload", 0) == each.get("PutFile", 0) for each in grown)
