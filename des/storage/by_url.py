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
        url: `s3://bucket/prefix`, `file:///folder`; empty for the folder of the settings.
        settings: of the node; `s3` says how S3 is reached.
        clock: time; the machine's by default.

    Raises:
        BadStoreUrlError: another scheme, or no bucket.
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
    if place.scheme != "s3":
        raise BadStoreUrlError(f"object_store is {url!r}, expected s3://bucket/prefix or file:///folder")
    if not _BUCKET.fullmatch(place.netloc):
        raise BadStoreUrlError(f"object_store is {url!r}, expected a bucket's name after {place.scheme}://")
    from des.storage.s3 import S3StorageBackend  # noqa: PLC0415  optional dependency

    return S3StorageBackend(place.netloc, prefix=place.path, settings=settings.s3, clock=clock)


def _bare(url: str) -> str:
    """Return a URL without what may be a secret."""
    place = urlsplit(url)
    return f"{place.scheme}://{place.hostname or ''}{place.path}"
