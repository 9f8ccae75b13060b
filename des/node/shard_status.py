"""What is known of one shard at its node."""

from dataclasses import dataclass

from des.errors import NotFoundError


class ShardNotFoundError(NotFoundError):
    """No shard has this number."""

    reason = "SHARD_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """What the packer is doing for one shard."""

    shard: int
    state: str
    """"active", "sealing" or "read_only"."""
    owner: str
    """UUID of the node that owns it."""
    epoch: int
    open_files: int
    open_bytes: int
    stored_files: int
    """Counted at the first shard of each container's run."""
    stored_bytes: int
    containers: int
    oldest_open_age_s: float | None
    """Age of the oldest file that waits for a seal; None when none does."""
    last_seal_ms: int | None
    last_heartbeat_ms: int
    last_error: str
    owner_address: str = ""
    """host:port of the owner in a cluster."""
