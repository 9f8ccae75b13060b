"""The errors of the container format that more than one section raises."""

from des.errors import CorruptError, DisabledError, InvalidInputError


class CorruptContainerError(CorruptError):
    """A container's bytes break docs/format.md. Each section has its own leaf."""


class ChecksumMismatchError(CorruptContainerError):
    """Stored bytes do not have the checksum recorded for them."""


class UnsupportedContainerError(DisabledError):
    """The container, or one file in it, uses a feature this reader does not have."""


class InvalidEntryError(InvalidInputError):
    """A file cannot be written as asked: its name, size, metadata or checksum breaks a rule."""
