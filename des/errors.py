"""The kinds of error DES raises on purpose.

A kind says what the caller can do; a leaf, defined beside the code that raises it, says what
happened. `des_server.status` has one row per kind.
"""

from typing import ClassVar


class DesError(Exception):
    """Base of every deliberate error."""

    retryable: ClassVar[bool] = False
    """True when the same call may succeed later without a change of input."""
    reason: ClassVar[str] = "INTERNAL"
    """Machine-readable cause: a value of `des.v1.ErrorReason` without its prefix."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, **details: object) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """When to try again, in seconds; None where nothing is known."""
        self.details: dict[str, str] = {key: str(value) for key, value in details.items()}
        """Facts of the message in machine-readable form (`google.rpc.ErrorInfo.metadata`)."""


class InvalidInputError(DesError):
    """The caller's input breaks a documented rule."""

    reason = "INVALID_FIELD"


class OutOfRangeError(DesError):
    """A range or revision outside what exists."""

    reason = "RANGE_NOT_SATISFIABLE"


class NotFoundError(DesError):
    """The named thing is known not to exist."""

    reason = "FILE_NOT_FOUND"


class AlreadyExistsError(DesError):
    """The name is taken by other content."""

    reason = "NAME_CONFLICT"


class ConflictError(DesError):
    """Another writer holds, or has already changed, what we tried to change."""

    reason = "CONCURRENT_UPLOAD"


class PreconditionError(DesError):
    """The store is in a state in which the call makes no sense until somebody changes it."""

    reason = "SHARD_READ_ONLY"


class ExhaustedError(DesError):
    """A quota or a disk is full."""

    retryable = True
    reason = "QUOTA_EXCEEDED"


class UnavailableError(DesError):
    """A dependency did not answer, or answered that it cannot now. Nothing is known to be lost."""

    retryable = True
    reason = "BACKEND_UNAVAILABLE"


class CorruptError(DesError):
    """Stored bytes break the format or their checksum. Never retried, always reported."""

    reason = "CONTAINER_CORRUPT"


class DisabledError(DesError):
    """A documented feature that this server does not serve."""

    reason = "FEATURE_DISABLED"


class DeadlineError(DesError):
    """A deadline passed before the work was done; the outcome is unknown."""

    retryable = True
    reason = "DEADLINE_EXCEEDED"


class CredentialsError(DesError):
    """No credentials, or none that are good here."""

    reason = "CREDENTIALS_INVALID"


class DeniedError(DesError):
    """The caller is known, and may not do this."""

    reason = "PERMISSION_DENIED"
