"""How many shards a node holds, and of how many it does not know any more that they are its own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LockReading:
    """A look at a node's shard locks."""

    held: int
    lapsed: int
    """Of those held, the ones whose time to live has passed without a renewal that succeeded."""
