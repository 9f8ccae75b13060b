"""Engines of all six databases, and what their drivers' errors mean."""

import sqlite3

import oracledb
import psycopg
import pymssql
import pymysql
import pytest

from des.clock import SystemClock
from des.errors import DesError
from des.sources.config import SourceConfig
from des.sources.dialects import DIALECTS, Fault
from des.sources.engine import SourceEngine


def config(dialect):
    parts = {"host": "db.example", "name": "docs", "user": "u", "password": "p@:/%?#"}
    return SourceConfig.model_validate(
        {
            "database": {"dialect": dialect} | ({"path": "x"} if dialect == "sqlite" else parts),
            "table": "doc",
            "columns": {"id": "id", "key": "key"},
            "objects": {"buckets": ["docs"], "bucket": "docs"},
        }
    )


@pytest.mark.parametrize("dialect", list(DIALECTS))
async def test_every_database_has_its_driver_and_connects_nowhere_before_it_must(dialect):
    engine = SourceEngine("docs", config(dialect), SystemClock())
    url = DIALECTS[dialect].url(config(dialect).database)
    assert dialect == "sqlite" or url.password == "p@:/%?#"
    assert "p@:" not in repr(url)
    await engine.close()


def test_oracles_database_is_a_service():
    url = DIALECTS["oracle"].url(config("oracle").database)
    assert url.render_as_string(hide_password=True) == "oracle+oracledb://u:***@db.example/?service_name=docs"


def oracle_error(kind, number):
    class Details:
        code = number
        full_code = f"ORA-{number:05d}"

    return kind(Details())


@pytest.mark.parametrize(
    ("dialect", "error", "fault"),
    [
        ("postgresql", psycopg.errors.DeadlockDetected(), Fault.ROLLED_BACK),
        ("postgresql", psycopg.errors.SerializationFailure(), Fault.ROLLED_BACK),
        ("postgresql", psycopg.errors.AdminShutdown(), Fault.UNAVAILABLE),
        ("postgresql", psycopg.errors.QueryCanceled(), Fault.UNAVAILABLE),
        ("postgresql", psycopg.errors.InsufficientPrivilege(), Fault.REFUSED),
        ("postgresql", psycopg.errors.UniqueViolation(), Fault.ROW),
        ("postgresql", psycopg.errors.StringDataRightTruncation(), Fault.ROW),
        ("postgresql", psycopg.errors.UndefinedColumn(), Fault.OTHER),
        ("postgresql", psycopg.OperationalError("password authentication failed for u"), Fault.REFUSED),
        ("postgresql", psycopg.OperationalError("Connection refused"), Fault.UNAVAILABLE),
        ("mysql", pymysql.err.OperationalError(1213, "Deadlock"), Fault.ROLLED_BACK),
        ("mysql", pymysql.err.OperationalError(2003, "Can't connect"), Fault.UNAVAILABLE),
        ("mysql", pymysql.err.OperationalError(1045, "Access denied"), Fault.REFUSED),
        ("mariadb", pymysql.err.IntegrityError(1062, "Duplicate entry"), Fault.ROW),
        ("mariadb", pymysql.err.DataError(1406, "Data too long"), Fault.ROW),
        ("mariadb", pymysql.err.OperationalError(4025, "CONSTRAINT failed"), Fault.ROW),
        ("mariadb", pymysql.err.ProgrammingError(1146, "No such table"), Fault.OTHER),
        ("oracle", oracle_error(oracledb.DatabaseError, 60), Fault.ROLLED_BACK),
        ("oracle", oracle_error(oracledb.DatabaseError, 1017), Fault.REFUSED),
        ("oracle", oracle_error(oracledb.IntegrityError, 1), Fault.ROW),
        ("oracle", oracle_error(oracledb.DatabaseError, 3113), Fault.UNAVAILABLE),
        ("oracle", oracle_error(oracledb.DatabaseError, 904), Fault.OTHER),
        ("mssql", pymssql.OperationalError(1205, b"deadlock victim"), Fault.ROLLED_BACK),
        ("mssql", pymssql.OperationalError(18456, b"Login failed"), Fault.REFUSED),
        ("mssql", pymssql.OperationalError((20009, b"Unable to connect")), Fault.UNAVAILABLE),
        ("mssql", pymssql.IntegrityError(2627, b"Violation of UNIQUE"), Fault.ROW),
        ("mssql", pymssql.ProgrammingError(207, b"Invalid column name"), Fault.OTHER),
    ],
)
def test_errors_are_told_apart_by_what_they_ask_of_the_caller(dialect, error, fault):
    assert DIALECTS[dialect].classify_driver_error(error) is fault


def test_sqlites_errors_are_told_apart_by_their_code(tmp_path):
    path = tmp_path / "x.sqlite"
    first, second = (sqlite3.connect(path, timeout=0, isolation_level=None) for _ in range(2))
    first.execute("CREATE TABLE t (a INTEGER PRIMARY KEY CHECK (a < 9))")
    first.execute("BEGIN IMMEDIATE")
    faults = []
    for connection, sql in (
        (second, "BEGIN IMMEDIATE"),
        (first, "INSERT INTO t VALUES (9)"),
        (first, "SELECT b FROM t"),
    ):
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute(sql)
        faults.append(DIALECTS["sqlite"].classify_driver_error(caught.value))
    first.close()
    second.close()
    assert faults == [Fault.ROLLED_BACK, Fault.ROW, Fault.OTHER]


async def test_a_transaction_that_always_deadlocks_ends_as_unavailable(tmp_path):
    path = tmp_path / "x.sqlite"
    path.touch()
    plain = config("sqlite").model_dump(by_alias=True)
    plain["database"] = {"dialect": "sqlite", "path": path}
    engine = SourceEngine("docs", SourceConfig.model_validate(plain), SystemClock())
    runs = 0

    def work(_connection):
        nonlocal runs
        runs += 1
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    with pytest.raises(DesError, match="rolled back 5 times in a row: database is locked"):
        await engine.write(work)
    assert runs == 5
    await engine.close()
