"""The two ways a container can hold its files (docs/format.md, section 2)."""

from enum import StrEnum


class Layout(StrEnum):
    """How files stand in DATA."""

    FRAMED = "framed"
    """Each file in a frame with its name, metadata and checksums; META is empty."""
    V1 = "v1"
    """Bare bytes in DATA and metadata in META, byte for byte as DES v1 has it."""
