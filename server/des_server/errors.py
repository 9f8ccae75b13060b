"""What only the service can raise: broken streams, no room, no longer serving."""

from des.errors import DeadlineError, InvalidInputError, UnavailableError


class StreamIncompleteError(InvalidInputError):
    """A stream with no message, no target, or an end before `finish`."""

    reason = "STREAM_INCOMPLETE"


class OffsetMismatchError(InvalidInputError):
    """A chunk that does not continue where the one before ended."""

    reason = "OFFSET_MISMATCH"


class MessageTooLargeError(InvalidInputError):
    """One message holds more than the limits allow."""

    reason = "MESSAGE_TOO_LARGE"


class PageTokenError(InvalidInputError):
    """A page token that this server did not make, or made for another question."""

    reason = "PAGE_TOKEN_INVALID"


class ServerBusyError(UnavailableError):
    """Too many bytes or calls in flight; nothing was done."""

    reason = "SERVER_BUSY"


class ShuttingDownError(UnavailableError):
    """The server is on its way out; nothing was done."""

    reason = "SHUTTING_DOWN"


class StalledError(DeadlineError):
    """The other side sent nothing for too long."""
