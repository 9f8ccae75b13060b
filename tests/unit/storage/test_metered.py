"""Every call is counted by what it was and how it ended."""

import asyncio
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from des.errors import DesError
from des.monitoring.object_store_metrics import ObjectStoreMetrics
from des.storage.memory import MemoryObjectStore
from des.storage.metered import MeteredObjectStore, outcome_of
from des.storage.object_store import (
    NoSuchBucketError,
    ObjectStoreForbiddenError,
    ObjectStoreFullError,
    ObjectStoreUnavailableError,
)
from des.testing.object_store_suite import put


async def test_calls_bytes_and_outcomes_are_counted() -> None:
    registry = CollectorRegistry()
    metrics = ObjectStoreMetrics()
    metrics.register(registry)
    store = MeteredObjectStore(MemoryObjectStore(), metrics)
    info = await put(store, "a", bytes(100))
    for call in (
        put(store, "a"),
        store.get_range("a", 0, 40),
        store.get_range("a", 5, 5),
        store.get_range("a", 0, 101),
        store.get_tail("a", 10),
        store.get_range("a", 0, 1, etag="other"),
        store.head("b"),
        store.delete("a", etag=info.etag),
    ):
        with suppress(DesError):
            await call
    _ = [info async for info in store.list("")]
    upload = await store.begin_upload("c", metadata={})
    await upload.write(bytes(7))
    await upload.finish()

    def calls(operation: str, outcome: str) -> float | None:
        labels = {"operation": operation, "outcome": outcome}
        return registry.get_sample_value("des_object_store_calls_total", labels)

    expected = {
        ("create", "ok"): 1, ("create", "exists"): 1, ("get_range", "ok"): 1, ("get_range", "damaged"): 1,
        ("get_range", "changed"): 1, ("get_tail", "ok"): 1, ("head", "missing"): 1, ("delete", "ok"): 1,
        ("list", "ok"): 1, ("finish_upload", "ok"): 1,
    }  # fmt: skip
    assert expected == {key: calls(*key) for key in expected}
    moved = {
        way: registry.get_sample_value("des_object_store_bytes_total", {"direction": way})
        for way in ("sent", "received")
    }
    assert moved == {"sent": 107, "received": 50}
    assert registry.get_sample_value("des_object_store_seconds_count", {"operation": "get_range"}) == 3


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ObjectStoreForbiddenError(""), "refused"),
        (NoSuchBucketError(""), "refused"),
        (ObjectStoreFullError(""), "full"),
        (ObjectStoreUnavailableError(""), "unavailable"),
        (asyncio.CancelledError(), "cancelled"),
        (RuntimeError(), "error"),
    ],
)
def test_outcomes_are_told_apart(error: BaseException, outcome: str) -> None:
    assert outcome_of(error) == outcome
