"""A range of bytes of one object."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The half-open range `[start, stop)` of bytes of one object; never empty."""

    start: int
    """First byte, counted from the start of the object."""
    stop: int
    """One past the last byte."""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"empty or negative range: [{self.start}, {self.stop})")

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.stop - self.start
