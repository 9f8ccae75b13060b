"""Takes items from what the caller gave, on the caller's own thread."""

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from des_client.write_many import LINGER_S

T = TypeVar("T")

ITEMS: Final = 256
"""Items pulled in one round, after which answers are looked at."""
BYTES: Final = 1 << 20


class Puller(Generic[T]):
    """Items, prepared, in rounds."""

    def __init__(
        self,
        items: Iterable[Any],
        prepare: Callable[[Any], T],
        size: Callable[[T], int],
        wake: Callable[[], None],
    ) -> None:
        """Pull nothing yet.

        Args:
            items: where from.
            prepare: makes of an item what is wanted.
            size: how many bytes of memory that takes.
            wake: never called: `take` itself waits for the items.
        """
        self._items = iter(items)
        self._prepare = prepare
        self._size = size
        self._wake = wake
        self.over = False
        """Whether every item was taken."""

    @property
    def ready(self) -> bool:
        """Whether there may be more."""
        return not self.over

    def take(self) -> list[T] | None:
        """Return the next items; None when there are no more.

        Waits for as long as the caller's iterator takes; raises what it raises.
        """
        taken: list[T] = []
        total = 0
        ends_at = time.monotonic() + LINGER_S
        for item in self._items:
            prepared = self._prepare(item)
            taken.append(prepared)
            total += self._size(prepared)
            if len(taken) >= ITEMS or total >= BYTES or time.monotonic() > ends_at:
                return taken
        self.over = True
        return taken or None

    def close(self) -> None:
        """Pull no more."""
        self.over = True
