"""Source databases for tests: real servers, with a table of rows that point at objects."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from des.sources.config import SourceConfig
from des.sources.dialects import DIALECTS
from des.sources.source_table import look, missing_columns
from des.testing.mariadb import DATABASE, PASSWORD, USER, MariaDbServer, temporary_mariadb
from des.testing.postgresql import restartable_postgresql

TABLE = "documents"
KINDS = ("postgresql", "mariadb", "sqlite")
_OWNERS_DDL = {
    "postgresql": (
        "CREATE TABLE documents (id BIGSERIAL PRIMARY KEY, bucket TEXT, object_key TEXT, etag TEXT, "
        "size_bytes BIGINT, mime TEXT, created TIMESTAMPTZ DEFAULT now(), customer TEXT, kind TEXT)"
    ),
    "mariadb": (
        "CREATE TABLE documents (id BIGINT AUTO_INCREMENT PRIMARY KEY, bucket VARCHAR(255), "
        "object_key VARCHAR(1100) COLLATE utf8mb4_bin, etag VARCHAR(100), size_bytes BIGINT, "
        "mime VARCHAR(100), created DATETIME DEFAULT UTC_TIMESTAMP, customer VARCHAR(100), kind VARCHAR(20))"
    ),
    "sqlite": (
        "CREATE TABLE documents (id INTEGER PRIMARY KEY, bucket TEXT, object_key TEXT, etag TEXT, "
        "size_bytes BIGINT, mime TEXT, created DATETIME DEFAULT (datetime('now')), customer TEXT, kind TEXT)"
    ),
}


@dataclass
class SourceDatabase:
    """One database with its table, and a way to it that does not go through what is tested."""

    kind: str
    database: Mapping[str, Any]
    """The `database` part of the source's configuration."""
    engine: Engine
    server: MariaDbServer | None = None
    restart: Callable[[], None] | None = None
    """Kills the server and starts it again; None where there is no server."""
    _whole: list[str] = field(default_factory=list)

    def config(self, **changes: Any) -> SourceConfig:
        """Return the source's configuration; `changes` go over its parts, key by key."""
        plain: dict[str, Any] = {
            "database": dict(self.database),
            "table": TABLE,
            "columns": {
                "id": "id",
                "key": "object_key",
                "bucket": "bucket",
                "etag": "etag",
                "size": "size_bytes",
                "content_type": "mime",
                "created_at": "created",
                "metadata": {"customer": "customer", "source-id": "id"},
            },
            "status_values": {"pending": None},
            "objects": {"buckets": ["docs"]},
        }
        for key, value in changes.items():
            plain[key] = {**plain.get(key, {}), **value} if isinstance(value, dict) else value
        return SourceConfig.model_validate(plain)

    def make_table(self) -> None:
        """Make the owner's table anew, and add what DES manages."""
        self.execute("DROP TABLE IF EXISTS documents", _OWNERS_DDL[self.kind])
        with self.engine.begin() as connection:
            table = look(connection, self.config())
            assert not isinstance(table, Exception)
            for column in missing_columns(table, self.config().columns):  # type: ignore[arg-type]
                kind = column.type.compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE documents ADD COLUMN {column.name} {kind}")
            connection.exec_driver_sql("CREATE INDEX by_claim ON documents (des_status, des_shard, id)")
            self._whole = self._shape(connection)

    def empty(self) -> None:
        """Take the rows out, or make the table anew where a test changed its columns."""
        with self.engine.begin() as connection:
            if self._shape(connection) == self._whole:
                connection.exec_driver_sql("DELETE FROM documents")
                return
        self.make_table()

    def _shape(self, connection: Connection) -> list[str]:
        found = look(connection, self.config())
        return [repr(column) for column in found.columns] if isinstance(found, Table) else []

    def add(self, count: int, *, first: int = 1, **values: Any) -> None:
        """Add rows with ids from `first` on, and keys made from them; `values` go over the defaults."""
        rows = [
            {
                "id": number,
                "bucket": "docs",
                "object_key": f"in/{number:06d}.bin",
                "etag": None,
                "size_bytes": None,
                "mime": "application/octet-stream",
                "customer": f"c{number % 7}",
                "kind": "a" if number % 2 else "b",
            }
            | values
            for number in range(first, first + count)
        ]
        self.insert(rows)

    def insert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows, all with the same columns."""
        if not rows:
            return
        columns = list(rows[0])
        with self.engine.begin() as connection:
            connection.execute(
                text(
                    f"INSERT INTO documents ({', '.join(columns)}) "  # noqa: S608  names of this module
                    f"VALUES ({', '.join(':' + column for column in columns)})"
                ),
                list(rows),
            )

    def execute(self, *sql: str) -> None:
        """Run statements, each in a transaction of its own."""
        for one in sql:
            with self.engine.begin() as connection:
                connection.exec_driver_sql(one if self.kind == "sqlite" else one.replace("%", "%%"))

    def rows(self, columns: str = "*", where: str = "1 = 1") -> Sequence[Any]:
        """Return rows in the order of their ids."""
        with self.engine.begin() as connection:
            statement = text(f"SELECT {columns} FROM documents WHERE {where} ORDER BY id")  # noqa: S608
            return connection.execute(statement).all()

    def statuses(self) -> dict[str | None, int]:
        """Count rows by what their status column holds."""
        with self.engine.begin() as connection:
            found = connection.execute(text("SELECT des_status, count(*) FROM documents GROUP BY des_status"))
            return {row[0]: row[1] for row in found}


@contextmanager
def temporary_source(kind: str, directory: Path) -> Iterator[SourceDatabase]:
    """Run a server of this kind; skip the test where there is none."""
    if kind == "postgresql":
        with restartable_postgresql(directory) as postgresql:
            made = _of(kind, _postgresql(postgresql.url))
            made.restart = lambda: postgresql.restart(crash=True)
            yield made
    elif kind == "mariadb":
        with temporary_mariadb(directory) as server:
            parts = {
                "dialect": "mariadb",
                "host": "127.0.0.1",
                "port": server.port,
                "name": DATABASE,
                "user": USER,
                "password": PASSWORD,
            }
            made = _of(kind, parts, server)
            made.restart = lambda: _restart(server)
            yield made
    else:
        path = directory / "source.sqlite"
        path.touch()
        yield _of(kind, {"dialect": "sqlite", "path": str(path)})


def _restart(server: MariaDbServer) -> None:
    server.stop(kill=True)
    server.start()


def _postgresql(url: str) -> dict[str, Any]:
    """Return the parts of a URL; that of a private server names a socket's folder as its host."""
    parsed = make_url(url)
    return {
        "dialect": "postgresql",
        "host": parsed.host or str(parsed.query["host"]),
        "port": parsed.port,
        "name": parsed.database,
        "user": parsed.username,
        "password": parsed.password or "",
    }


def _of(kind: str, parts: Mapping[str, Any], server: MariaDbServer | None = None) -> SourceDatabase:
    made = SourceDatabase(kind, parts, _admin(kind, parts), server)
    made.make_table()
    return made


def _admin(kind: str, parts: Mapping[str, Any]) -> Engine:
    if kind == "sqlite":
        return create_engine(
            URL.create("sqlite", database=parts["path"]), poolclass=NullPool, connect_args={"timeout": 60}
        )
    return create_engine(
        URL.create(
            DIALECTS[kind].driver,
            username=parts["user"],
            password=parts["password"] or None,
            host=parts["host"],
            port=parts["port"],
            database=parts["name"],
        ),
        poolclass=NullPool,
    )
