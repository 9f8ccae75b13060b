"""Names in order, for listing: sorted when first asked for, then kept so at the price of an append."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class NameOrder:
    """Names of one day. Most come in rising order, since they carry their time."""

    __slots__ = ("_fresh", "_sorted")

    def __init__(self, names: Iterable[str]) -> None:
        self._sorted = sorted(names)
        self._fresh: list[str] = []

    def __len__(self) -> int:
        return len(self._sorted) + len(self._fresh)

    def add(self, name: str) -> None:
        """Add a name; twice is once."""
        self._fresh.append(name)

    def page(
        self,
        present: Mapping[str, T],
        accept: Callable[[T], bool],
        *,
        prefix: str,
        after: str,
        limit: int,
    ) -> list[T]:
        """Return what `present` has of names with `prefix` that sort after `after`, at most `limit` accepted.

        Names that it has no longer are dropped on the way.
        """
        self._settle()
        names = self._sorted
        start = bisect_left(names, prefix) if prefix > after else bisect_right(names, after)
        found: list[T] = []
        gone = 0
        at = start
        while at < len(names) and len(found) < limit:
            name = names[at]
            if not name.startswith(prefix):
                break
            at += 1
            item = present.get(name)
            if item is None:
                gone += 1
            elif accept(item):
                found.append(item)
        if gone:
            names[start:at] = [name for name in names[start:at] if name in present]
        return found

    def _settle(self) -> None:
        if not self._fresh:
            return
        self._fresh.sort()
        ordered = not self._sorted or self._sorted[-1] < self._fresh[0]
        self._sorted += self._fresh
        self._fresh = []
        if not ordered:
            self._sorted.sort()  # two runs: merged, not sorted anew
            self._sorted = list(dict.fromkeys(self._sorted))
