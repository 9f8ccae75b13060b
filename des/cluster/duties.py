"""What a node has to do when shards come and go; the lease calls it, the node's parts do it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from des.errors import DesError


@dataclass(frozen=True, slots=True)
class Duties:
    """What a node does when shards come and go."""

    gained: Callable[[Sequence[int]], Awaitable[None]]
    """Make the shards servable: forget what was cached of them, replay what others shipped. Repeatable."""
    lost: Callable[[Sequence[int]], None]
    """Give up, at once, the open files of shards that somebody else took; `gained` waits for the rest."""
    gave: Callable[[Sequence[int]], None]
    """Give up what still reaches into shards that another node was handed."""
    empty: Callable[[Sequence[int]], Awaitable[Mapping[int, DesError]]]
    """Seal all that the shards hold open; return why, for those of which something could not be sealed."""
    is_empty: Callable[[int], bool]
    """Whether nothing of the shard is open."""
    awaits_files: Callable[[int], bool]
    """Whether files of the shard lie in this node's own log and are not shown yet: it lost the shard once."""
    holds_local_files: Callable[[], bool]
    """Whether files may lie here and nowhere else."""
    name_floor_ms: Callable[[], int]
    """No name that this node gave so far carries a later time."""
    named_until_ms: Callable[[], int | None]
    """No file that earlier starts of this node left in its log has a later name; None before it was read."""


async def _nothing(_: Sequence[int]) -> None:
    """For a node whose parts are not put together yet."""


async def _nothing_open(_: Sequence[int]) -> Mapping[int, DesError]:
    return {}


IDLE: Final = Duties(
    gained=_nothing,
    lost=lambda _: None,
    gave=lambda _: None,
    empty=_nothing_open,
    is_empty=lambda _: True,
    awaits_files=lambda _: False,
    holds_local_files=lambda: False,
    name_floor_ms=lambda: 0,
    named_until_ms=lambda: None,
)
