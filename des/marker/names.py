"""The names of one marker: a node id that nobody else has, and a mark below which no name is given again."""

import os
from pathlib import Path
from typing import Final

from des.errors import CorruptError, UnavailableError

MARK: Final = "names.floor"


class MarkUnwritableError(UnavailableError):
    """The mark could not be made durable; no name is given above the last one."""

    reason = "CLOCK_BEHIND"


class MarkDamagedError(CorruptError):
    """The mark's file does not hold a number; where names may go on is not known."""

    reason = "LOG_CORRUPT"


class NameMark:
    """Keeps, in the marker's own folder, how far names may have been given."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / MARK

    def read(self) -> int:
        """Return the mark in UTC milliseconds since 1970; 0 where none was ever written.

        Raises:
            MarkDamagedError: it cannot be read as a number.
        """
        try:
            text = self._path.read_text(encoding="ascii")
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise MarkDamagedError(f"{self._path}: {error}") from error
        if not text.strip().isdigit():
            raise MarkDamagedError(f"{self._path} holds {text[:40]!r}, expected milliseconds since 1970")
        return int(text)

    async def reserve(self, mark_ms: int) -> None:
        """Make a later mark durable: a new file, synced, renamed over the old one, and the folder synced.

        Raises:
            MarkUnwritableError: the old mark still holds.
        """
        fresh = self._path.with_suffix(".new")
        try:
            with fresh.open("w", encoding="ascii") as file:
                file.write(f"{mark_ms}\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise MarkUnwritableError(f"cannot keep {self._path}: {error.strerror}") from error
