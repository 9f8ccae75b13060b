"""What the command's exit code says (docs/cli.md, "Exit codes")."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every verb."""

    OK = 0
    FAILED = 1
    """Some items failed, or all did for causes that share no other code."""
    USAGE = 2
    """The command line or the configuration is wrong; nothing was tried."""
    UNAVAILABLE = 3
    """The server could not be reached, or said that it cannot now."""
    NOT_FOUND = 4
    CONFLICT = 5
    """The name is taken by other content."""
    CORRUPT = 6
    """Bytes do not match their checksum."""
    DEADLINE = 7
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    """Whoever read our output went away."""


class Failure(Exception):  # noqa: N818  an outcome of a verb, not a defect
    """A verb, or one item of it, that failed: what to tell the user, and the exit code."""

    def __init__(self, message: str, *, code: Exit = Exit.FAILED, reason: str = "FAILED") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        """Machine-readable cause: a value of `des.v1.ErrorReason` without its prefix, or a gRPC status."""


def os_error(error: OSError) -> str:
    """Say what the system refused, and where.

    >>> os_error(PermissionError(13, "Permission denied", "a/b"))
    'a/b: Permission denied'
    """
    cause = error.strerror or str(error)
    return f"{error.filename}: {cause}" if error.filename else cause
