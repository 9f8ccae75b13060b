"""An object store by its URL (docs/adr/0004): one function makes the backend, all else sees `ObjectStore`."""

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from des.clock import Clock
from des.config import Settings
from des.errors import InvalidInputError
from des.storage.local import LocalObjectStore
from des.storage.object_store import ObjectStore

OBJECTS: Final = "objects"
"""Folder of the objects in the data folder, where no other place is named."""
_BUCKET: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}")


class BadStoreUrlError(InvalidInputError):
    """The URL names no object store."""


def open_store(url: str, settings: Settings, *, clock: Clock | None = None) -> ObjectStore:
    """Return the object store that `url` names. Nothing is asked of it yet.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///folder`; empty
            for the folder of the settings.
        settings: of the node; `s3`, `gcs` and `azure` say how those are reached.
        clock: time; the machine's by default.

    Raises:
        BadStoreUrlError: another scheme, or no bucket.
        BadStoreSettingsError: what the settings say of the store makes no connection.
        MissingExtraError: the libraries for it are not installed.
        ObjectStoreUnavailableError: the folder cannot be used.
    """
    if not url:
        return LocalObjectStore(settings.object_dir or settings.data_dir / OBJECTS, clock)
    place = urlsplit(url)
    if place.query or place.fragment or place.username or place.password:
        raise BadStoreUrlError(
            f"object_store is {_bare(url)!r}, expected scheme, bucket and prefix alone; "
            "credentials and endpoint have settings of their own"
        )
    if place.scheme == "file":
        if place.netloc or not place.path.startswith("/"):
            raise BadStoreUrlError(f"object_store is {url!r}, expected file:///folder, an absolute path")
        return LocalObjectStore(Path(unquote(place.path)), clock)
    if place.scheme not in {"s3", "gs", "az"}:
        raise BadStoreUrlError(
            f"object_store is {url!r}, expected s3://bucket/prefix, gs://bucket/prefix, "
            "az://container/prefix or file:///folder"
        )
    if not _BUCKET.fullmatch(place.netloc):
        raise BadStoreUrlError(f"object_store is {url!r}, expected a bucket's name after {place.scheme}://")
    return _in_the_cloud(place.scheme, place.netloc, place.path, settings, clock)


def _in_the_cloud(
    scheme: str, bucket: str, prefix: str, settings: Settings, clock: Clock | None
) -> ObjectStore:
    # Optional dependencies: nobody needs the libraries of a store that is not named.
    if scheme == "s3":
        from des.storage.s3 import S3StorageBackend  # noqa: PLC0415

        return S3StorageBackend(bucket, prefix=prefix, settings=settings.s3, clock=clock)
    from des.storage.obstore_clients import connect_azure, connect_gcs  # noqa: PLC0415

    connections = (
        connect_gcs(bucket, settings.gcs) if scheme == "gs" else connect_azure(bucket, settings.azure)
    )
    from des.storage.obstore_backend import ObstoreBackend  # noqa: PLC0415

    return ObstoreBackend(
        connections,
        prefix=prefix,
        settings=settings.gcs if scheme == "gs" else settings.azure,
        clock=clock,
    )


def _bare(url: str) -> str:
    """Return a URL without what may be a secret."""
    place = urlsplit(url)
    return f"{place.scheme}://{place.hostname or ''}{place.path}"
