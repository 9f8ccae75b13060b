"""Whether a read of another node's shard may be left to the shard's owner, because that is who is asked next.

The owner knows its open and its stored files. Who can ask it need not ask the catalog first whether a file
that is nowhere to be seen has just been stored: most such files are open, and the queries cost more than all
the rest of such a read.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final

from des.cluster import Shards
from des.config import Settings
from des.db.catalog import ContainerRow
from des.errors import UnavailableError
from des.naming import ParsedName, consistent_hash, created_ms, parse_name
from des.retrieval.stored_containers import StoredContainers

SEEN_S: Final = 5.0
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


class Leaving:
    """Lets go of files of other nodes' shards of which no container was seen lately."""

    def __init__(self, settings: Settings, containers: StoredContainers, shards: Shards | None) -> None:
        """Decide for a node with a hold on some `shards`; on every shard where None."""
        self._bits = settings.shard_bits
        self._wrap_bits = settings.wrap_bits
        self._containers = containers
        self._shards = shards

    async def leave(self, name: str, parsed: ParsedName) -> None:
        """Leave a file to its shard's owner, if that is asked next. Costs a query of the catalog at most.

        Raises:
            NotShardOwnerError: it is left.
        """
        if (shard := self._left_shard(name)) is None:
            return
        rows: list[ContainerRow] = []
        # While the catalog is away the owner may know all the same.
        with suppress(UnavailableError):
            rows = await self._containers.rows(parsed.day, shard, bits=self._bits, age_max_s=SEEN_S)
        self._let_go(shard, parsed, rows)

    def leave_of_many(self, name: str) -> None:
        """Leave one of many files, stored or not, if its shard's owner is asked next. Costs nothing.

        The owner finds its share of them together and reads it in order; here each would be looked for by
        itself, and the rows of its shard and day be asked for anew: forty times the work, measured.

        Raises:
            NotShardOwnerError: it is left.
        """
        if (shard := self._left_shard(name)) is not None:
            self._let_go(shard, parse_name(name), ())

    def _left_shard(self, name: str) -> int | None:
        if self._shards is None or not is_left_to_owner():
            return None
        shard = consistent_hash(name, self._bits)
        return None if self._shards.owns(shard) else shard

    def _let_go(self, shard: int, parsed: ParsedName, rows: Sequence[ContainerRow]) -> None:
        time_ms = created_ms(parsed, self._wrap_bits)
        if self._shards is not None and not any(
            row.name_ms_first <= time_ms <= row.name_ms_last for row in rows
        ):
            self._shards.check_absence(shard, time_ms)
