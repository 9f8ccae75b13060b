"""Who should hold which shard: a pure decision that every node makes alike from the same view.

Shares are fair by capacity, few shards move, and a node's shards lie together where that costs no
move, since neighbouring shards can share a container.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """A node that may hold shards."""

    holder: str
    capacity: int = 1
    """Its share, relative to the others'."""


def plan_shares(shard_count: int, members: Sequence[Member], held: Mapping[int, str]) -> dict[int, str]:
    """Return the holder of every shard; nothing when there is no member.

    Args:
        shard_count: shards of the store.
        members: nodes that live and take shards.
        held: who holds which shard now; holders that are no members lose theirs.

    With equal capacities no member gets more than `ceil(shard_count / members)`. Shards that stay
    where they are stay: only what is above a share, or held by nobody, moves.
    """
    if not members:
        return {}
    kept: dict[str, list[int]] = {member.holder: [] for member in members}
    for shard in range(shard_count):
        if (holder := held.get(shard, "")) in kept:
            kept[holder].append(shard)
    quotas = _quotas(shard_count, members, {holder: len(shards) for holder, shards in kept.items()})
    plan: dict[int, str] = {}
    for holder, shards in kept.items():
        # The highest go, so that what remains and what moves lie together.
        plan.update(dict.fromkeys(shards[: quotas[holder]], holder))
    free = iter([shard for shard in range(shard_count) if shard not in plan])
    for holder in sorted(kept, key=lambda one: (min(kept[one], default=shard_count), one)):
        for _ in range(quotas[holder] - len(kept[holder])):
            plan[next(free)] = holder
    return plan


def _quotas(shard_count: int, members: Sequence[Member], held: Mapping[str, int]) -> dict[str, int]:
    """Return how many shards each member gets: its part, rounded so that the fewest move."""
    total = sum(member.capacity for member in members)
    exact = {member.holder: shard_count * member.capacity / total for member in members}
    quotas = {holder: int(part) for holder, part in exact.items()}
    # What rounding left over goes where most is held beyond the part already, then to the largest rest.
    order = sorted(
        quotas,
        key=lambda holder: (-min(1, held[holder] - quotas[holder]), quotas[holder] - exact[holder], holder),
    )
    for holder in order[: shard_count - sum(quotas.values())]:
        quotas[holder] += 1
    return quotas
