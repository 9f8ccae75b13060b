"""How fast seals empty the log."""

from typing import Final

MEMORY: Final = 0.8
"""How much of what was measured before still counts after another seal."""
FIRST_GUESS: Final = 0.003
"""Share of the log in a second, until there is a seal to measure: 12 MiB/s, or 3,000 files/s, by default."""


class SealPace:
    """A running mean over the last seals."""

    def __init__(self) -> None:
        self._share = 0.0
        self._seconds = 0.0

    def add(self, share: float, seconds: float) -> None:
        """Count a seal that took so long for so large a share of the log."""
        self._share = self._share * MEMORY + share
        self._seconds = self._seconds * MEMORY + seconds

    @property
    def per_s(self) -> float:
        """Share of the log that is sealed in a second."""
        return self._share / self._seconds if self._seconds else FIRST_GUESS
