"""What can go wrong with the ingest log."""

from des.errors import CorruptError, ExhaustedError, UnavailableError


class LogFailedError(UnavailableError):
    """A write or sync failed earlier: the log takes nothing more until the node is restarted."""

    reason = "LOG_FAILED"


class LogReadOnlyError(UnavailableError):
    """The log could not be trusted when it was opened: it is read, never written, until it is repaired."""

    reason = "LOG_FAILED"


class LogClosedError(UnavailableError):
    """The log is being closed."""

    reason = "SHUTTING_DOWN"


class LogFullError(ExhaustedError):
    """No room for another segment. Nothing was written; the next append tries again."""

    reason = "DISK_FULL"


class LogCorruptError(CorruptError):
    """Bytes of the log do not match the checksum they were written with."""

    reason = "LOG_CORRUPT"


class LogRecordGoneError(UnavailableError):
    """The segment was reclaimed: its files are in containers. Look there."""

    reason = "BACKEND_UNAVAILABLE"


class LogReadError(UnavailableError):
    """The device did not give the bytes. Nothing is known about them."""

    reason = "BACKEND_UNAVAILABLE"


class LogReclaimError(UnavailableError):
    """A segment could not be removed; it stays part of the log."""

    reason = "BACKEND_UNAVAILABLE"
