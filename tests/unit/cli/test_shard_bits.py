"""`des shard-bits`: when a change is due, and which flags fit together."""

from datetime import UTC, datetime

import pytest

from des.cli import shard_bits
from des.cli.exits import Failure
from des.config import load_settings
from des.db import DesDbConnector, SqlCatalog
from des.db.membership import Sharding
from des.node.doors import CATALOG

DAY_MS = 86_400_000


@pytest.fixture
async def loaded(tmp_path):
    catalog = SqlCatalog(DesDbConnector.sqlite(tmp_path / CATALOG))
    await catalog.migrate()
    await catalog.store_id()
    await catalog.sharding(8)
    await catalog.close()
    return load_settings(data_dir=tmp_path)


async def settle(loaded, bits, *, day=None, now=False, withdraw=False):
    return await shard_bits._settle(loaded, bits, day=day, now=now, withdraw=withdraw)


async def test_a_change_is_due_when_the_next_utc_day_begins(loaded):
    found = await settle(loaded, 9)
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    assert (found.bits, found.next_bits) == (8, 9)
    assert found.next_ms % DAY_MS == 0
    assert abs(found.next_ms - now_ms) <= DAY_MS  # a midnight may have passed meanwhile
    assert await settle(loaded, None) == found


async def test_a_change_is_due_on_a_given_day_at_once_or_never(loaded):
    found = await settle(loaded, 7, day="20990102")
    assert found == Sharding(8, 0, 7, 4_070_995_200_000)
    assert 0 < (await settle(loaded, 7, now=True)).next_ms < found.next_ms
    assert await settle(loaded, None, withdraw=True) == Sharding(8, 0)
    with pytest.raises(Failure, match="expected a day as YYYYMMDD"):
        await settle(loaded, 7, day="2099-01-02")
