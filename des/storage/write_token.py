"""The random token in an object's metadata that tells a write from another's of the same key.

With it, "it exists" after a lost answer is settled by looking: ours, or not.
"""

from collections.abc import Mapping
from typing import Final

TOKEN: Final = "des-write"  # noqa: S105  a metadata key
"""Metadata key of the token; callers never see it."""


def tagged(metadata: Mapping[str, str], token: str) -> dict[str, str]:
    """Return the metadata to store."""
    return {**metadata, TOKEN: token}


def untagged(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's metadata of what is stored."""
    return {name: value for name, value in metadata.items() if name != TOKEN}
