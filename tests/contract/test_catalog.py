"""Every catalog passes the same suite."""

import pytest
from sqlalchemy import text

from des.db import DesDbConnector, SqlCatalog
from des.db.schema import metadata
from des.testing.catalog_suite import CatalogSuite
from des.testing.memory_catalog import MemoryCatalog
from des.testing.postgresql import system_postgresql, temporary_postgresql
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
        with temporary_postgresql(tmp_path_factory.mktemp("pg")) as url:
            yield url

    @pytest.fixture
    async def catalog(self, postgresql_url):
        connector = DesDbConnector(postgresql_url)
        catalog = SqlCatalog(connector)
        await catalog.migrate()
        tables = ", ".join(metadata.tables)
        await connector.write(lambda connection: connection.execute(text(f"TRUNCATE {tables}")))
        yield catalog
        await catalog.close()


@pytest.mark.slow
class TestSystemPostgresqlCatalog(TestPostgresqlCatalog):
    """An older server than the wheel's, where the system has one."""

    @pytest.fixture(scope="class")
    @classmethod
    def postgresql_url(cls):
        with system_postgresql() as server:
            yield server.url
