"""What databases spell differently: connecting, locking rows, telling the time, and their errors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, ClassVar

from sqlalchemy import URL, BigInteger, ColumnElement, Engine, Select, Table, literal_column
from sqlalchemy.exc import DBAPIError

from des.sources.config import DatabaseConfig


class Fault(Enum):
    """What a driver's error means to the caller."""

    ROLLED_BACK = auto()
    """The database gave this transaction up in favour of another; run it again."""
    UNAVAILABLE = auto()
    """No answer; the effect is unknown."""
    REFUSED = auto()
    """Credentials or privileges."""
    ROW = auto()
    """A constraint, or a value that its column does not take."""
    OTHER = auto()
    """A statement that does not fit the table, or a defect."""


class Dialect(ABC):
    """One kind of database."""

    driver: ClassVar[str]
    """SQLAlchemy's `dialect+driver`."""
    module: ClassVar[str]
    """Python module of the driver."""
    extra: ClassVar[str]
    """Extra of `des-store` that brings the driver; empty where Python has it."""
    isolation: ClassVar[str | None] = None
    """Isolation level of transactions; None for the database's own default."""

    def url(self, config: DatabaseConfig) -> URL:
        """Return where to connect; the password is quoted by construction."""
        return URL.create(
            self.driver,
            username=config.user,
            password=config.password.get_secret_value() or None,
            host=config.host,
            port=config.port,
            database=config.name,
        )

    @abstractmethod
    def connect_arguments(self, config: DatabaseConfig) -> dict[str, Any]:
        """Return the driver's arguments for the time limits; `driver_options` go over them."""

    def prepare(self, engine: Engine, config: DatabaseConfig) -> None:  # noqa: B027  most need nothing
        """Hook into the engine what each connection or transaction needs."""

    @abstractmethod
    def now_ms(self) -> ColumnElement[int]:
        """Return UTC milliseconds since 1970 by the database's clock."""

    def locking(
        self, columns: Sequence[ColumnElement[Any]], table: Table, conditions: Select[Any], limit: int
    ) -> Select[Any]:
        """Return a query for up to `limit` rows that locks them and passes over those locked by others.

        Args:
            columns: to return.
            table: of the rows.
            conditions: a query of the id column alone, with WHERE and ORDER BY.
            limit: rows, at most.
        """
        return conditions.with_only_columns(*columns).limit(limit).with_for_update(skip_locked=True, of=table)

    def classify(self, error: DBAPIError) -> Fault:
        """Say what an error of the driver means."""
        if error.connection_invalidated:
            return Fault.UNAVAILABLE
        return self.classify_driver_error(error.orig)

    @abstractmethod
    def classify_driver_error(self, error: BaseException | None) -> Fault:
        """Say what an error of the driver means, from its own codes."""


def expression_ms(sql: str) -> ColumnElement[int]:
    """Return a constant piece of SQL that gives milliseconds."""
    return literal_column(sql, BigInteger())


def error_number(error: BaseException | None) -> int:
    """Return the number that a driver puts first into its errors; 0 for none."""
    first = error.args[0] if error is not None and error.args else 0
    return first if isinstance(first, int) else 0
