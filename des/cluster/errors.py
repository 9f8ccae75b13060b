"""What a node says about a shard that another node serves."""

from typing import Final

from des.errors import UnavailableError

RETRY_AFTER_S: Final = 0.2
OUTCOME: Final = "outcome"
UNKNOWN: Final = "unknown"
"""Among the details of an error: what was asked may have been done."""


class NotShardOwnerError(UnavailableError):
    """This node does not own the shard; who does may know more, and may be away."""

    reason = "NOT_SHARD_OWNER"

    @property
    def is_undecided(self) -> bool:
        """Whether what was asked may have been done all the same."""
        return self.details.get(OUTCOME) == UNKNOWN

    @property
    def shard(self) -> int:
        """Which shard."""
        return int(self.details["shard_id"])


def not_shard_owner(
    shard: int, why: str, *, owner: str = "", retry_after_s: float = RETRY_AFTER_S
) -> NotShardOwnerError:
    """Return the error for a shard.

    Args:
        shard: the shard.
        why: what is known about its owner.
        owner: UUID of the owning node; empty for nobody.
        retry_after_s: when to ask again.
    """
    return NotShardOwnerError(
        f"shard {shard} {why}", retry_after_s=retry_after_s, shard_id=shard, owner_node=owner
    )
