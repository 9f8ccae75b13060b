"""Which indexes of a stream were used: nearly nothing to keep where they count up."""

from typing import Final

STRAY_MAX: Final = 1 << 16
"""Indexes kept one by one, those that are ahead of a gap."""


class IndexSet:
    """Indexes from 0 to 2**32 - 1, each added once."""

    __slots__ = ("_below", "_first", "_stray")

    def __init__(self) -> None:
        self._first: int | None = None
        self._below = 0
        """All from `_first` up to this one were added."""
        self._stray: set[int] = set()

    def add(self, index: int) -> bool:
        """Add an index; False when it was there.

        Raises:
            OverflowError: too many lie ahead of a gap; the caller counts too wildly to be followed.
        """
        if self._first is None:
            self._first = self._below = index
        if index == self._below:
            self._below += 1
            stray = self._stray
            while stray and self._below in stray:
                stray.remove(self._below)
                self._below += 1
            return True
        if self._first <= index < self._below or index in self._stray:
            return False
        if len(self._stray) >= STRAY_MAX:
            raise OverflowError
        self._stray.add(index)
        return True
