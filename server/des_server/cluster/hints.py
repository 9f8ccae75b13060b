"""What an answer tells a client of where to ask: who answered, and who owns the shard (ADR 0028).

Nodes go by the first eight digits of their UUIDs, as in the ids of uploads. Only who may make the call gets
so far, and only calls that were sent on, or whose caller asks, cost anything.
"""

from typing import Any, Final, TypeAlias

from grpc.aio import ServicerContext

from des.db.membership import NodeRow
from des_server.cluster.onward import FOLLOW_KEY, SERVED, has, was_forwarded

ANSWERED_KEY: Final = "des-node"
"""Trailer: the node that the caller reached."""
OWNER_KEY: Final = "des-owner"
"""Trailer of a call that was sent on: the shard's owner, shard, shard bits, with semicolons between them."""
HINT_KEYS: Final = frozenset({ANSWERED_KEY, OWNER_KEY})
MARK_LENGTH: Final = 8

_Context: TypeAlias = ServicerContext[Any, Any]


class OwnerHints:
    """Makes the hints of one node."""

    def __init__(self, node: str, *, shard_bits: int) -> None:
        """Speak for the node of a UUID, about a store of `2**shard_bits` shards."""
        self._answered = (ANSWERED_KEY, node[:MARK_LENGTH])
        self._bits = shard_bits

    def introduce(self, context: _Context) -> None:
        """Say who answers, to a client that asks for it."""
        # Another node's question would come back through it as if it had answered.
        if has(context.invocation_metadata(), FOLLOW_KEY) and not was_forwarded(context):
            context.set_trailing_metadata((*(context.trailing_metadata() or ()), self._answered))

    def tell(self, shard: int, owner: NodeRow) -> None:
        """Say, with the call that the running task serves, that the shard's owner answers it."""
        context = SERVED.get()
        if context is None or was_forwarded(context):
            return
        kept = [each for each in context.trailing_metadata() or () if each[0] not in HINT_KEYS]
        owned = (OWNER_KEY, f"{owner.node[:MARK_LENGTH]};{shard};{self._bits}")
        context.set_trailing_metadata((*kept, self._answered, owned))
