"""The shards as cells of a grid: one each, or runs of equal length where there are very many."""

from collections.abc import Sequence
from typing import Final, TypeAlias

from des.node import ShardStatus

CELLS_MAX: Final = 1024
WORST_FIRST: Final = ("unowned", "read_only", "recovering", "sealing", "active")
"""A run of shards is in the state of its worst."""

Cell: TypeAlias = dict[str, int | float | str | None]


def grid_of(shards: Sequence[ShardStatus], cells_max: int = CELLS_MAX) -> list[Cell]:
    """Return the cells, by shard. `shards` are all of a store, by number."""
    run = 1
    while len(shards) / run > cells_max:
        run *= 2
    return [_cell(shards[first : first + run]) for first in range(0, len(shards), run)]


def _cell(shards: Sequence[ShardStatus]) -> Cell:
    ages = [shard.oldest_open_age_s for shard in shards if shard.oldest_open_age_s is not None]
    owners = {shard.owner for shard in shards}
    return {
        "shard": shards[0].shard,
        "span": len(shards),
        "state": min((shard.state for shard in shards), key=_rank),
        "open_files": sum(shard.open_files for shard in shards),
        "open_bytes": sum(shard.open_bytes for shard in shards),
        "stored_files": sum(shard.stored_files for shard in shards),
        "containers": sum(shard.containers for shard in shards),
        "age_s": round(max(ages), 1) if ages else None,
        "owner": owners.pop() if len(owners) == 1 else f"{len(owners)} nodes",
        "error": next((shard.last_error for shard in shards if shard.last_error), ""),
    }


def _rank(state: str) -> int:
    return WORST_FIRST.index(state) if state in WORST_FIRST else len(WORST_FIRST)
