"""What is kept by shard, said of other shards: pure, for the moment a store is divided anew (ADR 0021).

Shards are the top bits of a hash, so a shard is a part of one of fewer bits, or consists of some of more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from des.db.catalog import ShardLock
from des.db.membership import Estate, Sharding
from des.errors import InvalidInputError

SHARD_BITS_MAX: Final = 16
"""As the setting `shard_bits`."""


def check_bits(bits: int) -> None:
    """Refuse what no store is divided into.

    Raises:
        InvalidInputError: `bits` is not 0 to 16.
    """
    if not 0 <= bits <= SHARD_BITS_MAX:
        raise InvalidInputError(f"shard bits are {bits}, expected 0 to {SHARD_BITS_MAX}")


def may_turn(sharding: Sharding, locks: Iterable[ShardLock], *, now_ms: int, force: bool) -> bool:
    """Whether the store may be divided anew: that is due, and every holder has let go in order.

    A lock that only expired will not do: what its holder left is taken over first, by the shards it knew.
    """
    if force:
        return sharding.next_bits is not None
    return sharding.is_due(now_ms) and not any(
        lock.holder for lock in locks if lock.shard < 1 << sharding.bits
    )


def shards_at(shards: Iterable[int], *, before: int, after: int) -> tuple[int, ...]:
    """Return the shards of `2**after` that meet some of `2**before`.

    >>> shards_at([1], before=1, after=3)
    (4, 5, 6, 7)
    >>> shards_at([4, 5], before=3, after=2)
    (2,)
    """
    if after >= before:
        shift = after - before
        return tuple(
            part for shard in sorted(set(shards)) for part in range(shard << shift, (shard + 1) << shift)
        )
    return tuple(sorted({shard >> (before - after) for shard in shards}))


def estates_at(estates: Sequence[Estate], *, before: int, after: int, epoch: int) -> list[Estate]:
    """Return what nodes may still hold of shards of `2**after`; all carry the given epoch.

    Where shards become one, a node may hold there what it might hold in any of them. Records below the lowest
    `settled_seq` of those that are owed anything are void in all: of the others it let go in order, or
    all that it had was brought home, so that its records lie in containers.
    """
    merged: dict[tuple[int, str], list[Estate]] = {}
    for estate in estates:
        for place, shard in enumerate(shards_at([estate.shard], before=before, after=after)):
            # How the count divides is not known; so that it stays right in sum, the first has all.
            part = estate if place == 0 else replace(estate, open_files=0)
            merged.setdefault((shard, estate.node), []).append(part)
    return [_merged(shard, node, merged[shard, node], epoch=epoch) for shard, node in sorted(merged)]


def _merged(shard: int, node: str, estates: Sequence[Estate], *, epoch: int) -> Estate:
    owed = [estate for estate in estates if estate.owed]
    return Estate(
        shard=shard,
        node=node,
        epoch=epoch,
        local_files=any(estate.local_files for estate in estates),
        taken_ms=max(estate.taken_ms for estate in estates),
        named_until_ms=max(estate.named_until_ms for estate in estates),
        settled_seq=min(estate.settled_seq for estate in owed)
        if owed
        else max(estate.settled_seq for estate in estates),
        owed=bool(owed),
        open_files=sum(estate.open_files for estate in estates),
    )
