"""Every object store passes the one suite."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from des.config import AzureSettings, GcsSettings, S3Settings, Settings
from des.monitoring.object_store_metrics import ObjectStoreMetrics
from des.storage import S3StorageBackend, open_store
from des.storage.local import LocalObjectStore
from des.storage.memory import MemoryObjectStore
from des.storage.metered import MeteredObjectStore
from des.storage.object_store import ObjectStore
from des.testing.azure_server import CONTAINER, temporary_azurite
from des.testing.gcs_server import BUCKET as GCS_BUCKET
from des.testing.gcs_server import temporary_gcs
from des.testing.object_store_suite import ObjectStoreSuite
from des.testing.s3_server import BUCKET, temporary_moto, temporary_versitygw


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


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Settings]:
    with temporary_moto() as settings:
        yield settings


@pytest.fixture(scope="module")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    with temporary_versitygw(tmp_path_factory.mktemp("versitygw")) as settings:
        yield settings


class TestS3OnMoto(ObjectStoreSuite):
    @pytest.fixture
    async def store(self, moto: S3Settings) -> AsyncIterator[ObjectStore]:
        store = S3StorageBackend(BUCKET, prefix=uuid4().hex, settings=moto)
        yield store
        await store.close()


class TestS3OnVersitygw(ObjectStoreSuite):
    @pytest.fixture
    async def store(self, versitygw: S3Settings) -> AsyncIterator[ObjectStore]:
        store = S3StorageBackend(BUCKET, prefix=uuid4().hex, settings=versitygw)
        yield store
        await store.close()


class TestMetered(ObjectStoreSuite):
    @pytest.fixture
    async def store(self) -> AsyncIterator[ObjectStore]:
        store = MeteredObjectStore(MemoryObjectStore(), ObjectStoreMetrics())
        yield store
        await store.close()


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureSettings]:
    with temporary_azurite(tmp_path_factory.mktemp("azurite")) as settings:
        yield settings


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsSettings]:
    with temporary_gcs() as (settings, _):
        yield settings


class TestAzureOnAzurite(ObjectStoreSuite):
    @pytest.fixture
    async def store(self, azurite: AzureSettings) -> AsyncIterator[ObjectStore]:
        store = open_store(f"az://{CONTAINER}/{uuid4().hex}", Settings(azure=azurite))
        yield store
        await store.close()


class TestGcs(ObjectStoreSuite):
    @pytest.fixture
    async def store(self, gcs: GcsSettings) -> AsyncIterator[ObjectStore]:
        store = open_store(f"gs://{GCS_BUCKET}/{uuid4().hex}", Settings(gcs=gcs))
        yield store
        await store.close()
