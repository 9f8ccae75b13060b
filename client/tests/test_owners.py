"""What a client learns of who owns which shard, answer by answer."""

import pytest
from des_client.owners import ASKS, REPEATS, SHARDS_MAX, Owners, shard_of
from des_client.road import Road
from des_proto.v1 import types_pb2

BITS = 4
NAME = "DES_20260228_(000000000000_00)"
SHARD = 198 >> 4
OPEN, STORED = types_pb2.FILE_STATE_OPEN, types_pb2.FILE_STATE_STORED


def hint(node, owner, shard=SHARD, bits=BITS):
    return (("des-request-id", "1"), ("des-node", node), ("des-owner", f"{owner};{shard};{bits}"))


def file(state=OPEN, name=NAME):
    return types_pb2.FileInfo(name=name, state=state)


def road(at=0, name=NAME, **options):
    made = Road(name, **options)
    made.at = at
    return made


@pytest.fixture
def owners():
    """Of three connections, which lead to the nodes a, b and c."""
    made = Owners(3)
    for at, node in enumerate("abc"):
        made.answered(road(at), (("des-node", node),), None)
    return made


def test_the_shard_is_the_one_that_servers_mean():
    """The worked example of `des.naming.consistent_hash`."""
    assert [shard_of(NAME, bits) for bits in (8, 4, 0)] == [198, 12, 0]


def test_nothing_is_known_at_first():
    assert Owners(2).leads(road()) == ()


def test_a_hint_leads_to_the_owner(owners):
    owners.answered(road(0), hint("a", "c"), file())
    assert owners.leads(road()) == (2,)
    assert owners.leads(road(is_read=True)) == (2,)
    assert owners.leads(road(name="DES_20260228_(000000000001_01)")) == ()


def test_an_error_of_the_owners_is_an_answer(owners):
    owners.answered(road(0, is_read=True), hint("a", "b"), None)
    assert owners.leads(road(is_read=True)) == (1,)


def test_an_owner_behind_none_of_the_connections_is_asked_in_turn(owners):
    owners.answered(road(0), hint("a", "d"), file())
    assert owners.leads(road()) == ()


def test_a_later_hint_replaces_an_earlier_one(owners):
    owners.answered(road(0), hint("a", "c"), file())
    owners.answered(road(2), hint("c", "b"), file())
    assert owners.leads(road()) == (1,)


def test_who_writes_without_a_hint_owns_the_shard(owners):
    owners.answered(road(0), hint("a", "c", shard=0), None)  # what a hint is for: the number of shards
    owners.answered(road(1, name=""), (), file())
    assert owners.leads(road()) == (1,)


def test_who_never_said_who_it_is_may_have_sent_the_call_on_without_a_word():
    owners = Owners(2)
    owners.answered(road(0), hint("a", "b", shard=0), None)
    owners.answered(road(1), (), file())
    assert owners.leads(road()) == ()


def test_a_connection_that_leads_to_another_node_by_now_says_so(owners):
    owners.answered(road(0), hint("a", "b"), file())
    owners.answered(road(1), hint("c", "b"), file())
    assert owners.leads(road()) == ()
    owners.answered(road(0), hint("b", "c", shard=1), None)
    assert owners.leads(road()) == (0,)


def test_several_connections_may_lead_to_one_node():
    owners = Owners(3)
    for at, node in enumerate("aab"):
        owners.answered(road(at), (("des-node", node),), None)
    owners.answered(road(2), hint("b", "a"), file())
    assert owners.leads(road()) == (0, 1)


def test_another_number_of_shards_begins_anew(owners):
    owners.answered(road(0), hint("a", "c"), file())
    owners.answered(road(0), hint("a", "b", shard=0, bits=BITS + 1), None)
    assert owners.leads(road()) == ()
    owners.answered(road(0), hint("a", "b", shard=shard_of(NAME, BITS + 1), bits=BITS + 1), None)
    assert owners.leads(road()) == (1,)


def test_a_stored_file_that_is_read_again_and_again_is_read_at_all_nodes(owners):
    owners.answered(road(0, is_read=True), hint("a", "c"), file())
    for _ in range(REPEATS + 1):
        assert owners.leads(road(is_read=True)) == (2,)
        owners.answered(road(2, is_read=True), (), file(STORED))
    assert owners.leads(road(is_read=True)) == ()
    owners.answered(road(1, is_read=True), (), file(STORED))
    assert owners.leads(road(is_read=True)) == ()
    assert owners.leads(road()) == (2,)  # what only the owner can do goes there all the same


def test_stored_files_that_are_read_in_between_each_other_are_read_at_the_owner(owners):
    number = next(n for n in range(100) if shard_of(f"x{n}", BITS) == SHARD)
    owners.answered(road(0, is_read=True), hint("a", "c"), file(STORED))
    for _ in range(3 * REPEATS):
        for name in (NAME, f"x{number}"):
            assert owners.leads(road(name=name, is_read=True)) == (2,)
            owners.answered(road(2, name=name, is_read=True), (), file(STORED, name=name))


def test_after_a_failure_the_attempts_of_the_call_take_turns(owners):
    owners.answered(road(0), hint("a", "c"), file())
    failed = road(2)
    owners.failed(failed, silent=False)
    assert owners.leads(failed) == ()
    assert owners.leads(road()) == (2,)


def test_a_silent_connection_leads_nowhere_until_it_answers(owners):
    owners.answered(road(0), hint("a", "c"), file())
    owners.failed(road(2), silent=True)
    assert owners.leads(road()) == ()
    assert owners.asks(2)
    owners.answered(road(2), (("des-node", "c"),), None)
    assert owners.leads(road()) == (2,)
    assert not owners.asks(2)


def test_who_answers_is_asked_a_few_times_only():
    owners = Owners(1)
    assert [owners.asks(0) for _ in range(ASKS + 2)] == [True] * ASKS + [False] * 2


def test_an_upload_stays_where_it_was_begun(owners):
    owners.answered(road(0), hint("a", "c"), file())
    upload = road(1)
    upload.node = "b"
    assert owners.leads(upload) == (1,)
    owners.answered(upload, (), file())
    assert owners.leads(road()) == (2,)


def test_where_a_begun_upload_is_was_told(owners):
    begun = road(0)
    owners.answered(begun, hint("a", "c"), None)
    assert begun.told == "c"
    begun = road(1)
    owners.answered(begun, (), None)
    assert begun.told == "b"


@pytest.mark.parametrize(
    "value",
    ["", "c", "c;1", ";1;4", "c;x;4", "c;16;4", "c;1;65", "c;-1;4", "c;1;4;5", "c" * 65 + ";1;4", "c d;1;4"],
)
def test_what_is_no_hint_is_ignored(owners, value):
    owners.answered(road(0), (("des-node", "a"), ("des-owner", value)), None)
    assert all(owners.leads(road(name=str(number))) == () for number in range(100))


def test_what_is_remembered_has_a_limit(owners):
    for shard in range(SHARDS_MAX + 100):
        owners.answered(road(0), hint("a", "b", shard=shard, bits=32), None)
    assert len(owners._table.shards) == SHARDS_MAX
    assert SHARDS_MAX + 99 in owners._table.shards
