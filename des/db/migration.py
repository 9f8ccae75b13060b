"""Bringing a database to this version's schema, with Alembic but without its ini file."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from des.db.catalog import CatalogVersionError

SCRIPTS: Final = Path(__file__).parent / "migrations"
INSUFFICIENT_PRIVILEGE: Final = "42501"
"""SQLSTATE of PostgreSQL."""
_ADVISORY_LOCK: Final = int.from_bytes(b"des_migr")
"""Any number that nobody else locks in the database."""


def upgrade(connection: Connection) -> None:
    """Bring the schema to this version, inside the transaction of `connection`.

    Raises:
        CatalogVersionError: the database has a revision that this version does not know, or an older one
            and the role may not change it.
    """
    if connection.dialect.name == "postgresql":
        # One node migrates, the others wait; SQLite's write transaction does the same.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    config = _config(connection)
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    found = revision_of(connection)
    if found == head:
        return
    if found is not None and not _is_known(scripts, found):
        raise CatalogVersionError(
            f"the catalog has revision {found!r}, the latest that this version of DES knows is {head!r}: "
            "a newer version migrated it",
            found=found,
            expected=head,
        )
    try:
        command.upgrade(config, "head")
    except ProgrammingError as error:
        cause = getattr(error.orig, "__cause__", None)  # asyncpg's own, below SQLAlchemy's
        if getattr(cause, "sqlstate", None) != INSUFFICIENT_PRIVILEGE:
            raise
        raise CatalogVersionError(
            f"the catalog has revision {found!r}, this version of DES needs {head!r}, and this role of the "
            "database may not change tables: run `des migrate` as the role that may",
            found=found,
            expected=head,
        ) from error


def downgrade(connection: Connection, revision: str) -> None:
    """Take the schema back to `revision` ("base": to nothing), with the data of what goes."""
    command.downgrade(_config(connection), revision)


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the database, or None when it has none."""
    return MigrationContext.configure(connection).get_current_revision()


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def _is_known(scripts: ScriptDirectory, revision: str) -> bool:
    try:
        return scripts.get_revision(revision) is not None
    except CommandError:
        return False
