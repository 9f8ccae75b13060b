"""An object under a key of ours is another's only when two looks say so."""

from dataclasses import replace
from typing import Any

import pytest

from des.packer.settled_create import ForeignObjectError, head_of_ours, settled_create
from des.storage.bytes_body import BytesBody
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import NoSuchObjectError, ObjectInfo, ObjectStoreUnavailableError

IDENTITY = {"des-container-id": "7"}
DATA = b"container"


class CutStore(MemoryObjectStore):
    """Its next `cut` answers to HEAD end behind the etag; the next `lost` creates are not answered."""

    cut = 0
    lost = 0

    async def head(self, key: str) -> ObjectInfo:
        info = await super().head(key)
        if not self.cut:
            return info
        self.cut -= 1
        return replace(info, metadata={})

    async def create(self, key: str, body: Any, *, metadata: Any) -> ObjectInfo:
        info = await super().create(key, body, metadata=metadata)
        if not self.lost:
            return info
        self.lost -= 1
        raise ObjectStoreUnavailableError("no answer", key=key)


async def create(store: CutStore, data: bytes = DATA) -> ObjectInfo:
    return await settled_create(store, "key", BytesBody(data), metadata=IDENTITY, identity=IDENTITY)


@pytest.mark.parametrize("lost", [0, 1])
async def test_an_answer_cut_off_in_its_head_is_looked_at_again(lost: int) -> None:
    store = CutStore()
    store.lost = lost
    if not lost:
        await create(store)
    store.cut = 1
    assert (await create(store)).metadata == IDENTITY
    store.cut = 1
    found = await head_of_ours(store, "key", size=len(DATA), identity=IDENTITY)
    assert (found.metadata, store.cut) == (IDENTITY, 0)


async def test_what_looks_foreign_twice_is_foreign() -> None:
    store = CutStore()
    await create(store)
    store.cut = 2
    with pytest.raises(ForeignObjectError):
        await head_of_ours(store, "key", size=len(DATA), identity=IDENTITY)
    with pytest.raises(ForeignObjectError):
        await create(store, b"other bytes")


async def test_nothing_is_not_foreign() -> None:
    with pytest.raises(NoSuchObjectError):
        await head_of_ours(CutStore(), "key", size=1, identity=IDENTITY)
