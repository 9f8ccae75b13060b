"""STATS: what a container holds, for people and planners (docs/format.md, section 19)."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Self

from des.format.section_table import BadSectionError

STATS_LENGTH_MAX: Final = 1 << 20
"""Bytes that a reader takes; two names are in it."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of a sealed container. No read depends on them."""

    files: int
    external_files: int
    data_bytes: int
    """Sum of the files' lengths, those outside included."""
    stored_bytes: int
    """Bytes of the files inside, as they are stored."""
    name_first: str
    """Least name; empty when there is no file."""
    name_last: str
    sizes: dict[str, int] = field(default_factory=dict)
    """How many files are shorter than 2**n bytes and no shorter than half of that, by n; "0" is empty."""

    def encode(self) -> bytes:
        """Return the section's bytes: one JSON object without white space."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a section's bytes; keys of later versions are skipped.

        Raises:
            BadSectionError: not one JSON object with these keys.
        """
        try:
            document: dict[str, Any] = json.loads(data)
            return cls(**{one.name: document[one.name] for one in fields(cls)})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadSectionError(f"STATS is not what it should be: {error}") from error
