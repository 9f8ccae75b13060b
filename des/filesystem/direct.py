"""`des+s3://bucket/prefix/NAME`: stored files straight from their containers, with no server and no catalog.

Needs the extra `fsspec` (and `s3`). A name says its day and shard, the keys of a day are listed once, and the
containers whose shards come close are asked; an index page that was read is kept. What this cannot know:
files that are not in a container yet, and deletions, which the catalog holds. A deleted file can be read here
for as long as its bytes are in a container.
"""

import asyncio
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from fsspec.asyn import AsyncFileSystem

from des.config import S3Settings, Settings
from des.core.file_view import StoredFile
from des.core.s3_reader import S3DesReader
from des.errors import NotFoundError
from des.naming.name import InvalidNameError, parse_name
from des.naming.sharding import consistent_hash
from des.storage.by_url import open_store
from des.storage.object_store import ObjectInfo, ObjectStore

READERS_MAX: Final = 256
"""Containers whose indexes are kept open."""
ASKED_TOGETHER: Final = 8
"""Containers asked for a name at a time, nearest shard first."""

_DAY: Final = re.compile(r"[0-9]{8}")
_KEY: Final = re.compile(r"(?P<day>[0-9]{8})/(?P<shard>[0-9a-fA-F]+)/[^/]+\.des")


class _Place:
    """What a path names: a store, one of its days, or a file."""

    def __init__(self, path: str) -> None:
        folder, _, last = path.rpartition("/")
        self.name: str | None = None
        self.day: str | None = None
        try:
            day = parse_name(last).day
        except InvalidNameError:
            self.root = path
        else:
            self.name, self.root = last, folder
            self.day = day.replace("-", "")
        folder, _, last = self.root.rpartition("/")
        if _DAY.fullmatch(last):
            self.root = folder
            self.day = self.day or last


class DirectFileSystem(AsyncFileSystem):
    """Containers in an object store as folders of days; read only."""

    scheme: ClassVar[str] = ""

    def __init__(self, *, s3: Mapping[str, Any] | None = None, **options: Any) -> None:
        """Take note of how the object store is reached.

        Args:
            s3: the settings `s3` of a server, `endpoint_url` and `region` for example; the environment of
                boto3 (credentials, region) holds for the rest.
            options: fsspec's own.
        """
        super().__init__(**options)
        self._settings = Settings(s3=S3Settings(**(s3 or {})))
        self._stores: dict[str, ObjectStore] = {}
        self._readers: OrderedDict[tuple[str, str], S3DesReader] = OrderedDict()
        self._days: dict[tuple[str, str], list[ObjectInfo]] = {}

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget which containers there are, so that those made since are found."""
        self._days.clear()
        super().invalidate_cache(path)

    # --- containers --------------------------------------------------------------------------

    def _store(self, root: str) -> ObjectStore:
        if root not in self._stores:
            self._stores[root] = open_store(f"{self.scheme}://{root}", self._settings)
        return self._stores[root]

    async def _containers(self, root: str, day: str) -> list[ObjectInfo]:
        if (root, day) not in self._days:
            found = [
                one
                async for one in self._store(root).list(f"{day}/" if day else "")
                if _KEY.fullmatch(one.key)
            ]
            self._days[root, day] = found
        return self._days[root, day]

    def _reader(self, root: str, info: ObjectInfo) -> S3DesReader:
        at = (root, info.key)
        if at not in self._readers:
            self._readers[at] = S3DesReader(self._store(root), info.key, etag=info.etag, size=info.size)
            if len(self._readers) > READERS_MAX:
                self._readers.popitem(last=False)
        self._readers.move_to_end(at)
        return self._readers[at]

    async def _holder(self, path: str) -> tuple[str, S3DesReader]:
        """Find the container of a file.

        Raises:
            FileNotFoundError: no container of its day has it.
        """
        place = _Place(path)
        if place.name is None or place.day is None:
            raise FileNotFoundError(path)
        name = place.name
        listed_before = (place.root, place.day) in self._days
        try:
            reader = await self._search(place.root, place.day, name)
        except NotFoundError:
            # A container went away under the listing.
            reader = None
        if reader is None and listed_before:
            # What was listed earlier is no proof: it may be in a container made since.
            del self._days[place.root, place.day]
            reader = await self._search(place.root, place.day, name)
        if reader is None:
            raise FileNotFoundError(path)
        return name, reader

    async def _search(self, root: str, day: str, name: str) -> S3DesReader | None:
        containers = await self._containers(root, day)
        if not containers:
            return None
        digits = len(containers[0].key.split("/")[1])
        # A container covers its shard and a few after it: the nearest one before the file's comes first.
        shard = consistent_hash(name, 4 * digits)
        below = [one for one in containers if int(one.key.split("/")[1], 16) <= shard]
        below.sort(key=lambda one: one.key.split("/")[1], reverse=True)
        for start in range(0, len(below), ASKED_TOGETHER):
            readers = [self._reader(root, one) for one in below[start : start + ASKED_TOGETHER]]
            has = await asyncio.gather(*(reader.contains(name) for reader in readers))
            for reader, found in zip(readers, has, strict=True):
                if found:
                    return reader
        return None

    # --- fsspec --------------------------------------------------------------------------------

    async def _info(self, path: str, **_options: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        place = _Place(path)
        if place.name is None:
            if place.day is not None and not await self._containers(place.root, place.day):
                raise FileNotFoundError(path)
            return {"name": path, "size": 0, "type": "directory"}
        name, reader = await self._holder(path)
        try:
            return _entry(path, await reader.stat(name))
        except NotFoundError:
            raise FileNotFoundError(path) from None

    async def _ls(self, path: str, detail: bool = True, **_options: Any) -> list[Any]:  # noqa: FBT001, FBT002
        path = self._strip_protocol(path).rstrip("/")
        place = _Place(path)
        if place.name is not None:
            entries = [await self._info(path)]
        elif place.day is None:
            days = sorted({one.key.split("/")[0] for one in await self._containers(place.root, "")})
            entries = [{"name": f"{path}/{day}", "size": 0, "type": "directory"} for day in days]
        else:
            entries = []
            for one in await self._containers(place.root, place.day):
                reader = self._reader(place.root, one)
                if detail:
                    entries += [_entry(f"{path}/{stored.name}", stored) async for stored in reader]
                else:
                    entries += [{"name": f"{path}/{name}"} for name in await reader.list_files()]
        return entries if detail else sorted(one["name"] for one in entries)

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_options: Any
    ) -> bytes:
        name, reader = await self._holder(self._strip_protocol(path))
        if start is None and end is None:
            return await reader.get_file(name)
        size = (await reader.stat(name)).size
        first, last, _ = slice(start, end).indices(size)
        return b"" if last <= first else await reader.get_range(name, first, last - first)

    async def _cat(
        self,
        path: Any,
        recursive: bool = False,  # noqa: FBT001, FBT002  fsspec's
        on_error: str = "raise",
        batch_size: int | None = None,
        **options: Any,
    ) -> Any:
        paths = await self._expand_path(path, recursive=recursive)
        if len(paths) == 1 and isinstance(path, str) and not recursive:
            return await self._cat_file(paths[0], **options)
        del batch_size
        found: dict[str, Any] = {}
        groups: dict[S3DesReader, dict[str, str]] = {}
        for one in paths:
            try:
                if _Place(one).name is not None:
                    name, reader = await self._holder(one)
                    groups.setdefault(reader, {})[name] = one
            except FileNotFoundError as missing:
                if on_error == "raise":
                    raise
                if on_error == "return":
                    found[one] = missing
        for reader, named in groups.items():
            contents = await reader.get_files_batch(named)
            found.update((named[name], data) for name, data in contents.items())
        return found

    async def _get_file(self, rpath: str, lpath: Any, **_options: Any) -> None:
        if _Place(self._strip_protocol(rpath)).name is None:
            await asyncio.to_thread(os.makedirs, lpath, exist_ok=True)
            return
        data = await self._cat_file(rpath)
        await asyncio.to_thread(_write, Path(lpath), data)


class DesS3FileSystem(DirectFileSystem):
    """`des+s3://bucket/prefix`."""

    protocol = "des+s3"
    scheme = "s3"


class DesFolderFileSystem(DirectFileSystem):
    """`des+file:///folder`: the objects of a store on this machine."""

    protocol = "des+file"
    scheme = "file"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _entry(path: str, stored: StoredFile) -> dict[str, Any]:
    return {"name": path, "size": stored.size, "type": "file", "crc32c": stored.crc32c}
