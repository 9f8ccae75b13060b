"""The connection to one source database: bounded, with deadlines, its errors told apart.

Drivers block, so transactions run in threads of the source's own; a database that hangs holds up no other.
"""

import asyncio
import importlib.util
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, QueuePool, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from des.clock import Clock
from des.errors import DesError
from des.sources.config import SourceConfig
from des.sources.dialects import DIALECTS, Fault
from des.sources.dialects.sqlite import READ_ONLY
from des.sources.errors import (
    DriverMissingError,
    RowRefusedError,
    SourceRefusedError,
    SourceSchemaError,
    SourceUnavailableError,
)

T = TypeVar("T")
ATTEMPTS_MAX: Final = 5
"""How often a transaction that the database rolled back is run."""
BACKOFF_FIRST_S: Final = 0.02
MESSAGE_MAX: Final = 500
"""Characters of a driver's message that are passed on."""


class SourceEngine:
    """Runs transactions of one source."""

    def __init__(self, name: str, config: SourceConfig, clock: Clock) -> None:
        """Connect nothing yet.

        Raises:
            DriverMissingError: the database's driver is not installed.
        """
        self.dialect = DIALECTS[config.database.dialect]
        if importlib.util.find_spec(self.dialect.module) is None:
            raise DriverMissingError(
                f"source {name!r}: {config.database.dialect} needs the Python package {self.dialect.module}: "
                f"pip install 'des-store[{self.dialect.extra}]'"
            )
        self._name = name
        self._clock = clock
        pool = config.database.pool
        self._limit_s = pool.wait_s + pool.connect_timeout_s + pool.statement_timeout_s
        self._engine = _make(config)
        self._reads = self._engine.execution_options(**{READ_ONLY: True})
        self._threads = ThreadPoolExecutor(pool.size, thread_name_prefix=f"des-source-{name}")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads. Same errors as `write`."""
        return await self._run(self._reads, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as one transaction and commit it; again from its start if it was rolled back.

        A caller that is cancelled does not stop it.

        Raises:
            SourceUnavailableError: no answer in time; whether it committed is unknown.
            SourceRefusedError: credentials or privileges.
            RowRefusedError: a constraint or type refuses a row; nothing was written.
            SourceSchemaError: a statement does not fit the table, which was changed since it was looked at.
        """
        return await self._run(self._engine, work)

    async def close(self) -> None:
        """Wait for transactions under way, within their limits, and give connections back."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._engine.dispose()

    async def _run(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        for attempt in range(ATTEMPTS_MAX):
            try:
                async with asyncio.timeout(self._limit_s):
                    return await asyncio.get_running_loop().run_in_executor(
                        self._threads, _transact, engine, work
                    )
            except DesError:
                raise
            except (TimeoutError, PoolTimeoutError):
                raise SourceUnavailableError(
                    f"source {self._name!r}: no answer within {self._limit_s:g} s", source=self._name
                ) from None
            except Exception as error:
                translated = self._translate(error)
                if translated is not None:
                    raise translated from error
                rolled_back = error
            wait_s = BACKOFF_FIRST_S * (1 << attempt) * random.uniform(0.5, 1)  # noqa: S311  no secret
            await self._clock.sleep(wait_s)
        raise SourceUnavailableError(
            f"source {self._name!r}: rolled back {ATTEMPTS_MAX} times in a row: {_words(rolled_back)}",
            source=self._name,
        )

    def _translate(self, error: Exception) -> Exception | None:
        """Return what the caller shall see; None runs the transaction again."""
        message = f"source {self._name!r}: {_words(error)}"
        match self.dialect.classify(error) if isinstance(error, DBAPIError) else self._of_driver(error):
            case Fault.ROLLED_BACK:
                return None
            case Fault.UNAVAILABLE:
                return SourceUnavailableError(message, source=self._name)
            case Fault.REFUSED:
                return SourceRefusedError(message, source=self._name)
            case Fault.ROW:
                return RowRefusedError(message, source=self._name)
            case _ if isinstance(error, SQLAlchemyError):
                return SourceSchemaError(message, source=self._name)
            case _:
                return error

    def _of_driver(self, error: Exception) -> Fault:
        # While connecting, drivers raise their own errors, not SQLAlchemy's.
        if isinstance(error, OSError):
            return Fault.UNAVAILABLE
        if type(error).__module__.split(".")[0] == self.dialect.module:
            return self.dialect.classify_driver_error(error)
        return Fault.OTHER


def _transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def _words(error: BaseException) -> str:
    """Return the driver's own message on one line, without the statement and its values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split())[:MESSAGE_MAX]


def _make(config: SourceConfig) -> Engine:
    dialect = DIALECTS[config.database.dialect]
    database = config.database
    options: dict[str, Any] = {}
    if dialect.isolation is not None:
        options["isolation_level"] = dialect.isolation
    engine = create_engine(
        dialect.url(database),
        poolclass=QueuePool,
        pool_size=database.pool.size,
        max_overflow=0,
        pool_timeout=database.pool.wait_s,
        pool_recycle=database.pool.recycle_s,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={**dialect.connect_arguments(database), **database.driver_options},
        **options,
    )
    dialect.prepare(engine, database)
    return engine
