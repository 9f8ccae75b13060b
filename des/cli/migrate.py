"""`des migrate`: the catalog's tables, for databases in which servers may not change them."""

import asyncio

import typer

from des.cli import options, settings
from des.cli.report import print_json, print_line
from des.cli.store_access import failure_of
from des.config import Settings
from des.db import DesDbConnector, SqlCatalog
from des.db.migration import revision_of
from des.errors import DesError
from des.node.doors import CATALOG

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def migrate(
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    sets: settings.Set = None,
    as_json: options.Json = False,
) -> None:
    """Bring the catalog's tables to this version, and show the revision before and after.

    A server does that itself when it starts, if its role in the database may. Where it may not
    (docker/privileges/roles.sql), this is run before the servers of a new version are started, with the URL
    of the role that may in DES_CATALOG_URL. Running it twice changes nothing.
    """
    before, after = asyncio.run(_migrate(settings.load(config, settings.flags(sets, data_dir=data_dir))))
    if as_json:
        print_json({"before": before, "after": after})
    else:
        print_line(f"{before or 'empty'} -> {after}" if before != after else f"{after}, as it was")


async def _migrate(loaded: Settings) -> tuple[str | None, str | None]:
    if not loaded.catalog_url:
        loaded.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    url = loaded.catalog_url or f"sqlite+aiosqlite:///{(loaded.data_dir / CATALOG).resolve()}"
    connector = DesDbConnector.configured(url, loaded.catalog)
    catalog = SqlCatalog(connector)
    try:
        before = await connector.read(lambda connection: connection.run_sync(revision_of))
        await catalog.migrate()
        return before, await connector.read(lambda connection: connection.run_sync(revision_of))
    except DesError as error:
        raise failure_of(error) from error
    finally:
        await catalog.close()
