"""Where an archive is: a local path, or an object of a store by its URL."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from des.cli.exits import Exit, Failure
from des.config import load_settings
from des.core.byte_source import ByteSource
from des.core.local_file import LocalFile
from des.core.loop_thread import LoopThread
from des.core.sink import ContainerExistsError
from des.core.store_file import StoreFile
from des.storage import open_store
from des.storage.object_store import NoSuchObjectError, ObjectStore

_GROUPS: Final = {"s3": "s3", "gs": "gcs", "az": "azure"}
"""Scheme -> the settings that say how it is reached."""
SCHEMES: Final = tuple(_GROUPS)
"""Of object stores; everything else is a path."""
READ_SIZE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StorePlace:
    """An object of a store."""

    store_url: str
    """Scheme and bucket."""
    key: str
    endpoint_url: str | None

    def open(self) -> ObjectStore:
        """Return the store; the environment says how it is reached, as for the maker's own tools.

        Raises:
            BadStoreUrlError: the URL names none.
            MissingExtraError: its libraries are not installed.
        """
        group = _GROUPS[urlsplit(self.store_url).scheme]
        there = None if self.endpoint_url is None else {"endpoint_url": self.endpoint_url}
        return open_store(self.store_url, load_settings(None, **{group: there}))


def place_of(archive: str, endpoint_url: str | None) -> Path | StorePlace:
    """Return where an archive is.

    Raises:
        Failure: a URL without bucket or key.

    >>> place_of("s3://bucket/2026/a.des", None).key
    '2026/a.des'
    """
    scheme, separator, _ = archive.partition("://")
    if not separator or scheme not in SCHEMES:
        return Path(archive)
    place = urlsplit(archive)
    key = archive.removeprefix(f"{scheme}://{place.netloc}").removeprefix("/")
    if not place.netloc or not key or key.endswith("/"):
        raise Failure(f"{archive}: expected {scheme}://BUCKET/KEY", code=Exit.USAGE, reason="INVALID_FIELD")
    return StorePlace(f"{scheme}://{place.netloc}", key, endpoint_url)


@contextmanager
def connected(place: StorePlace) -> Iterator[tuple[ObjectStore, LoopThread]]:
    """Open the store of a place, and a loop to wait for it in."""
    loop = LoopThread()
    try:
        store = place.open()
        try:
            yield store, loop
        finally:
            loop.wait(store.close())
    finally:
        loop.close()


@contextmanager
def opened_source(archive: str, endpoint_url: str | None) -> Iterator[ByteSource]:
    """Open an archive's bytes, sound or not."""
    place = place_of(archive, endpoint_url)
    if isinstance(place, Path):
        with LocalFile(place) as file:
            yield file
        return
    with connected(place) as (store, loop):
        yield StoreFile(store, place.key, name=archive, loop=loop)


@contextmanager
def new_archive(archive: str, endpoint_url: str | None) -> Iterator[Path]:
    """Yield the path to write a new archive to; where it is an object, it is made when the block ends well.

    Raises:
        ContainerExistsError: it is there already.
    """
    place = place_of(archive, endpoint_url)
    if isinstance(place, Path):
        yield place
        return
    with connected(place) as (store, loop), tempfile.TemporaryDirectory(prefix="des-") as folder:
        try:
            loop.wait(store.head(place.key))
        except NoSuchObjectError:
            pass
        else:
            raise ContainerExistsError(f"{archive!r} exists")
        path = Path(folder) / "new.des"
        yield path
        with LocalFile(path) as body:
            loop.wait(store.create(place.key, _Body(body), metadata={}))


class _Body:
    """A local file to upload."""

    def __init__(self, file: LocalFile) -> None:
        self._file = file

    def size(self) -> int:
        """Return the length in bytes."""
        return self._file.size

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes at `offset`."""
        return self._file.read_up_to(size, offset)
