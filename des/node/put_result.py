"""The answer to a write."""

from dataclasses import dataclass

from des.files import Durability, FileInfo


@dataclass(frozen=True, slots=True)
class PutResult:
    """The answer to a write."""

    file: FileInfo
    already_existed: bool
    """The very same file was there before; nothing was written."""
    durability: Durability
    """What was reached, at least."""
