"""Every object store passes the one suite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from des.storage.local import LocalObjectStore
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import ObjectStore
from des.testing.object_store_suite import ObjectStoreSuite


class TestMemoryObjectStore(ObjectStoreSuite):
    @pytest.fixture
    async def store(self) -> AsyncIterator[ObjectStore]:
        store = MemoryObjectStore()
        yield store
        await store.close()


class TestLocalObjectStore(ObjectStoreSuite):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ObjectStore]:
        store = LocalObjectStore(tmp_path / "objects")
        yield store
        await store.close()
