"""What can go wrong with a source database, told apart by what it asks of the caller."""

from des.errors import InvalidInputError, PreconditionError, UnavailableError


class SourceConfigError(InvalidInputError):
    """The configuration of the sources breaks a rule; the message says where and what was expected."""

    reason = "INVALID_FIELD"


class SourceUnavailableError(UnavailableError):
    """The source database did not answer; whether a write took effect is unknown. Repeat it later."""

    reason = "BACKEND_UNAVAILABLE"


class SourceRefusedError(PreconditionError):
    """The source database refuses this user: wrong credentials, or a missing privilege."""


class SourceSchemaError(PreconditionError):
    """The table is not what the configuration says: it, a column, a type or a key is missing or another."""


class RowRefusedError(PreconditionError):
    """A constraint or a type of the table refuses what was written to one of its rows."""


class DriverMissingError(PreconditionError):
    """The Python driver of the database is not installed."""
