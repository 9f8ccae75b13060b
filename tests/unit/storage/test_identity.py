"""A wrong bucket or prefix is refused at the start, not taken for a store that lost everything."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from des.config import load_settings
from des.db import DesDbConnector, SqlCatalog
from des.node import Node
from des.storage.identity import WrongStoreError, check_identity, read_identity
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import (
    ObjectDamagedError,
    ObjectInfo,
    ObjectStoreForbiddenError,
    ObjectStoreUnavailableError,
)
from des.testing.object_store_suite import keys, put


async def none() -> Sequence[str]:
    return []


async def one() -> Sequence[str]:
    return ["2026-11-24/00/a.des"]


async def test_a_new_store_is_named_once() -> None:
    store = MemoryObjectStore()
    assert await read_identity(store) is None
    for _ in range(2):
        await check_identity(store, "store-1", known_keys=none)
    assert await read_identity(store) == "store-1"
    assert await keys(store) == ["des-store-id"]


async def test_another_store_is_refused() -> None:
    store = MemoryObjectStore()
    await check_identity(store, "store-1", known_keys=none)
    with pytest.raises(WrongStoreError, match="'store-1', the catalog to 'store-2'"):
        await check_identity(store, "store-2", known_keys=none)
    await check_identity(store, "store-2", object_prefix="other", known_keys=none)


async def test_an_empty_bucket_is_not_the_one_of_a_catalog_with_containers() -> None:
    store = MemoryObjectStore()
    with pytest.raises(WrongStoreError, match="none of the first 1"):
        await check_identity(store, "store-1", known_keys=one)
    assert await keys(store) == []


async def test_objects_older_than_the_identity_are_adopted() -> None:
    store = MemoryObjectStore()
    await put(store, "2026-11-24/00/a.des")
    await check_identity(store, "store-1", known_keys=one)
    assert await read_identity(store) == "store-1"


@pytest.mark.parametrize("data", [b"", b"x" * 300, b"\xff\xfe"])
async def test_a_damaged_identity_is_no_absent_one(data: bytes) -> None:
    store = MemoryObjectStore()
    await put(store, "des-store-id", data)
    with pytest.raises(ObjectDamagedError):
        await check_identity(store, "store-1", known_keys=none)


@pytest.mark.parametrize("kind", [ObjectStoreUnavailableError, ObjectStoreForbiddenError])
async def test_an_identity_that_cannot_be_read_is_no_absent_one(kind: type[Exception]) -> None:
    class Mute(MemoryObjectStore):
        async def head(self, key: str) -> ObjectInfo:
            raise kind(key)

    store = Mute()
    with pytest.raises(kind):
        await check_identity(store, "store-1", known_keys=none)
    assert await keys(store) == []


async def test_a_node_refuses_to_start_on_another_stores_objects(tmp_path: Path) -> None:
    objects = tmp_path / "objects"
    node = await Node.open(load_settings(data_dir=tmp_path / "a", object_dir=objects))
    await node.close()
    with pytest.raises(WrongStoreError):
        await Node.open(load_settings(data_dir=tmp_path / "b", object_dir=objects))
    catalog = SqlCatalog(DesDbConnector.sqlite(tmp_path / "a" / "catalog.sqlite"))
    await catalog.close()
    node = await Node.open(load_settings(data_dir=tmp_path / "a", object_dir=objects))
    await node.close()
