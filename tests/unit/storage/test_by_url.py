"""A URL names one store, and never carries a secret."""

import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from des.config import AzureSettings, GcsSettings, Settings, load_settings
from des.storage import S3StorageBackend, open_store
from des.storage.by_url import BadStoreUrlError
from des.storage.local import LocalObjectStore
from des.storage.obstore_backend import ObstoreBackend
from des.storage.s3_client import MissingExtraError


async def test_an_empty_url_is_the_folder_of_the_settings(tmp_path: Path) -> None:
    store = open_store("", load_settings(data_dir=tmp_path))
    assert isinstance(store, LocalObjectStore)
    assert (tmp_path / "objects" / ".object-store").exists()
    await store.close()


async def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/my%20objects", load_settings())
    assert isinstance(store, LocalObjectStore)
    assert (tmp_path / "my objects" / ".object-store").exists()
    await store.close()


@pytest.mark.parametrize(
    ("url", "prefix"),
    [("s3://bucket", ""), ("s3://bucket/", ""), ("s3://bucket/a/b", "a/b/"), ("s3://bucket/a/", "a/")],
)
async def test_an_s3_url_is_bucket_and_prefix(url: str, prefix: str) -> None:
    store = open_store(url, load_settings())
    assert isinstance(store, S3StorageBackend)
    assert (store.s3.bucket, store.prefix) == ("bucket", prefix)
    await store.close()


@pytest.mark.parametrize(
    ("url", "kind", "prefix"),
    [("gs://bucket/a/b", "gcs", "a/b/"), ("gs://bucket", "gcs", ""), ("az://container/a/", "azure", "a/")],
)
async def test_google_and_azure_have_urls_too(url: str, kind: str, prefix: str) -> None:
    settings = Settings(gcs=GcsSettings(token=SecretStr("t")), azure=AzureSettings(account="account"))
    store = open_store(url, settings)
    assert isinstance(store, ObstoreBackend)
    assert (store.dialect.kind, store.prefix) == (kind, prefix)
    await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/y",
        "gs://",
        "az:///x",
        "s3:///prefix",
        "s3://",
        "bucket/prefix",
        "file://host/x",
        "file:relative",
        "s3://b?x=1",
    ],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(BadStoreUrlError, match="expected"):
        open_store(url, load_settings())


def test_a_secret_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(BadStoreUrlError) as caught:
        open_store("s3://key:hunter2@bucket/prefix", load_settings())
    assert "hunter2" not in str(caught.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    for scheme, extra in (("s3", "s3"), ("gs", "gcs"), ("az", "azure")):
        with pytest.raises(MissingExtraError, match=rf"obstore.*pip install 'des-store\[{extra}\]'"):
            open_store(f"{scheme}://bucket", load_settings())
