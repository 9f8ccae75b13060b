"""One small module per database; here they are chosen by name."""

from typing import Final

from des.sources.dialects.base import Dialect, Fault
from des.sources.dialects.mariadb import MariaDb
from des.sources.dialects.mssql import MsSql
from des.sources.dialects.mysql import MySql
from des.sources.dialects.oracle import Oracle
from des.sources.dialects.postgresql import PostgreSql
from des.sources.dialects.sqlite import Sqlite

DIALECTS: Final[dict[str, Dialect]] = {
    "postgresql": PostgreSql(),
    "mysql": MySql(),
    "mariadb": MariaDb(),
    "oracle": Oracle(),
    "mssql": MsSql(),
    "sqlite": Sqlite(),
}
"""Name in the configuration -> the dialect."""

__all__ = ["DIALECTS", "Dialect", "Fault"]
