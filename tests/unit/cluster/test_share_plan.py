"""Fair shares, few moves, neighbours together."""

import math
import random
from collections import Counter

import pytest

from des.cluster import Member, plan_shares

A, B, C = Member("a"), Member("b"), Member("c")


def runs(plan, holder):
    """How many stretches of neighbouring shards a holder has."""
    own = sorted(shard for shard, one in plan.items() if one == holder)
    return sum(1 for at, shard in enumerate(own) if at == 0 or own[at - 1] != shard - 1)


def moved(before, after):
    return sum(1 for shard, holder in after.items() if before.get(shard) != holder)


def test_one_node_holds_everything_and_nobody_nothing():
    assert plan_shares(4, [A], {}) == {0: "a", 1: "a", 2: "a", 3: "a"}
    assert plan_shares(4, [], {0: "a"}) == {}


def test_a_node_that_joins_gets_its_share_and_nothing_else_moves():
    alone = plan_shares(256, [A], {})
    two = plan_shares(256, [A, B], alone)
    assert Counter(two.values()) == {"a": 128, "b": 128}
    assert moved(alone, two) == 128
    three = plan_shares(256, [A, B, C], two)
    assert sorted(Counter(three.values()).values()) == [85, 85, 86]
    assert moved(two, three) == Counter(three.values())["c"]
    assert max(runs(three, holder) for holder in "abc") <= 2


def test_what_a_lost_node_held_is_shared_out_and_nothing_else_moves():
    three = plan_shares(256, [A, B, C], plan_shares(256, [A, B], plan_shares(256, [A], {})))
    two = plan_shares(256, [A, C], three)
    assert Counter(two.values()) == {"a": 128, "c": 128}
    assert moved(three, two) == Counter(three.values())["b"]


def test_shares_follow_capacity():
    plan = plan_shares(100, [Member("big", 3), Member("small", 1)], {})
    assert Counter(plan.values()) == {"big": 75, "small": 25}


def test_more_nodes_than_shards_leave_some_without():
    plan = plan_shares(2, [A, B, C], {})
    assert len(set(plan.values())) == 2


@pytest.mark.parametrize("seed", range(30))
def test_shares_are_fair_and_stable_through_any_history(seed):
    dice = random.Random(seed)
    count = 1 << dice.randint(0, 9)
    held: dict[int, str] = {}
    for _ in range(20):
        members = [Member(f"n{number}") for number in dice.sample(range(9), dice.randint(1, 9))]
        dice.shuffle(members)
        plan = plan_shares(count, members, held)
        assert sorted(plan) == list(range(count))
        sizes = Counter(plan.values())
        ceiling = math.ceil(count / len(members))
        assert max(sizes.values()) <= ceiling
        assert min(sizes[member.holder] for member in members) >= count // len(members)
        names = {member.holder for member in members}
        lost = sum(1 for shard in range(count) if held.get(shard) not in names)
        over = sum(
            max(0, sum(1 for one in held.values() if one == name) - count // len(members)) for name in names
        )
        assert moved(held, plan) <= lost + over
        # The same view gives the same plan, whoever looks and in whatever order; a plan that was
        # carried out asks for nothing more.
        dice.shuffle(members)
        assert plan == plan_shares(count, members, held)
        assert plan == plan_shares(count, members, plan)
        held = {shard: holder for shard, holder in plan.items() if dice.random() < 0.9}
