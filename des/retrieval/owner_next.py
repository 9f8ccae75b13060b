"""Whether a read of another node's shard may be left to the shard's owner, because that is who is asked next.

The owner knows its open and its stored files. Who can ask it need not ask the catalog first whether a file
that is nowhere to be seen has just been stored: most such files are open, and the queries cost more than all
the rest of such a read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

SEEN_S: Final = 2.0
"""How old the rows of another node's shard may be that show no container for a name, so that its owner is
asked at once. A file that was stored meanwhile takes one hop more than it need."""

_IS_NEXT: Final[ContextVar[bool]] = ContextVar("shards_owner_is_asked_next", default=False)


@contextmanager
def owner_is_next() -> Iterator[None]:
    """Mark the reads inside as ones whose refusals (`NotShardOwnerError`) the owner is asked about."""
    before = _IS_NEXT.get()
    _IS_NEXT.set(True)
    try:
        yield
    finally:
        _IS_NEXT.set(before)  # not by a token: a generator may be closed by another task


def is_left_to_owner() -> bool:
    """Whether the present read was so marked."""
    return _IS_NEXT.get()
