"""What the write and read paths ask about shards: whether this node may decide for one, now."""

from collections.abc import Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

_COMING_HOME: ContextVar[bool] = ContextVar("coming_home", default=False)


@contextmanager
def coming_home() -> Iterator[None]:
    """Mark the writes inside as files that a node acknowledged alone and brings to their owner now.

    Nobody waits for that node's log to decide about them: it is the log that speaks.
    """
    token = _COMING_HOME.set(True)
    try:
        yield
    finally:
        _COMING_HOME.reset(token)


def comes_home() -> bool:
    """Whether the present write was so marked."""
    return _COMING_HOME.get()


class Shards(Protocol):
    """A node's hold on shards, as those see it who write and read files."""

    def owns(self, shard: int) -> bool:
        """Whether this node decides about names of the shard and has its open files, at this moment."""
        ...

    def owns_any(self) -> bool:
        """Whether this node owns a shard at all."""
        ...

    def writing(self, shards: Collection[int], *, named_ms: int) -> AbstractAsyncContextManager[None]:
        """Decide and append for these shards inside the block; a hand-over waits for its end.

        Args:
            shards: of the files.
            named_ms: the latest time in a name of theirs; 0 for writes that add no file.

        Raises:
            NameAheadError: that time lies too far ahead.
            NotShardOwnerError: one of them is another node's; at the end of the block: it was lost
                meanwhile, and whether the write is kept is unknown.
        """
        ...

    def check_named(self, shard: int, name_ms: int) -> None:
        """Refuse a name whose time lies too far ahead for a file of a shard to be acknowledged under it.

        Raises:
            NameAheadError: it does.
            NotShardOwnerError: the shard is another node's.
        """
        ...

    async def note_local(self) -> None:
        """Return when all know that this node may hold files that lie nowhere else; before it says so.

        Raises:
            UnavailableError: the catalog did not take the note.
        """
        ...

    def check_absence(self, shard: int, name_ms: int) -> None:
        """Refuse to say that a file of this shard, named at `name_ms`, does not exist.

        Raises:
            NotShardOwnerError: another node owns the shard, or may hold the file and is away.
        """
        ...


class EveryShard:
    """The hold of a store that one node has for itself."""

    _writing = nullcontext()

    def owns(self, shard: int) -> bool:  # noqa: ARG002  every one
        """Return True."""
        return True

    def owns_any(self) -> bool:
        """Return True."""
        return True

    def writing(
        self,
        shards: Collection[int],  # noqa: ARG002  every one
        *,
        named_ms: int,  # noqa: ARG002  every one
    ) -> AbstractAsyncContextManager[None]:
        """Wait for nothing."""
        return self._writing

    def check_named(self, shard: int, name_ms: int) -> None:
        """Take every name: nobody else will have to know which were taken."""

    async def note_local(self) -> None:
        """Nobody else need know."""

    def check_absence(self, shard: int, name_ms: int) -> None:
        """Let it be said."""
