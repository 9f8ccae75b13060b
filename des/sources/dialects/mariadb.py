"""MariaDB through PyMySQL."""

from typing import ClassVar

from des.sources.dialects.mysql import MySql


class MariaDb(MySql):
    """As MySQL; `SKIP LOCKED` from MariaDB 10.6."""

    driver: ClassVar[str] = "mariadb+pymysql"
