"""Ranged reads through obstore, with everything checked that the answer lets us see."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from des.storage.checks import check_etag
from des.storage.object_store import (
    ObjectChangedError,
    ObjectDamagedError,
    ObjectInfo,
    ObjectStoreUnavailableError,
)
from des.storage.s3_errors import of_obstore
from des.storage.write_token import untagged

OWN_KEYS: Final = frozenset("_abcdefghijklmnopqrstuvwxyz0123456789")
"""First characters of metadata keys; obstore's own attributes start with a capital."""


class ObstoreReads:
    """Ranges of the objects behind one obstore store. obstore demands status 206 and a Content-Range."""

    def __init__(self, store: Any, *, timeout_s: float) -> None:
        from obstore.exceptions import BaseError  # noqa: PLC0415  optional dependency

        self._store = store
        # An absent object is a FileNotFoundError, missing credentials are a PermissionError.
        self._failures = (BaseError, OSError)
        self._timeout_s = timeout_s

    async def get_range(self, path: str, start: int, stop: int, etag: str | None) -> bytes:
        """Return exactly the bytes `[start, stop)`, one or more. Errors as `ObjectStore.get_range`."""
        found, data = await self._get(path, (start, stop), etag)
        if found.range != (start, stop) or len(data) != stop - start:
            raise ObjectDamagedError(
                f"{path!r} answered with {len(data)} bytes at {found.range}, asked for [{start}, {stop})",
                key=path,
            )
        _check_etag(path, found.meta, etag)
        return data

    async def get_tail(self, path: str, size: int, etag: str | None) -> tuple[Any, bytes]:
        """Return the answer and the last `size` bytes, one or more. Errors as `ObjectStore.get_tail`."""
        found, data = await self._get(path, {"suffix": size}, etag)
        whole = found.meta["size"]
        if found.range != (max(0, whole - size), whole) or len(data) != min(size, whole):
            raise ObjectDamagedError(
                f"{path!r} of {whole} bytes answered with {len(data)} bytes at {found.range}, "
                f"asked for the last {size}",
                key=path,
            )
        _check_etag(path, found.meta, etag)
        return found, data

    async def _get(self, path: str, wanted: Any, etag: str | None) -> tuple[Any, bytes]:
        options = {"range": wanted} if etag is None else {"range": wanted, "if_match": etag}
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._store.get_async(path, options=options)
                data = await found.bytes_async()
        except TimeoutError:
            raise ObjectStoreUnavailableError(
                f"no answer of the store about {path!r} within {self._timeout_s:.0f} s", key=path
            ) from None
        except self._failures as error:
            raise of_obstore(path, error) from error
        return found, data.to_bytes()


async def tail_or_nothing(
    reads: ObstoreReads,
    path: str,
    *,
    key: str,
    size: int,
    etag: str | None,
    head: Callable[[str], Awaitable[ObjectInfo]],
) -> tuple[ObjectInfo, bytes]:
    """Return the last `size` bytes of an object, also where that is none; then by a HEAD."""
    damage: ObjectDamagedError | None = None
    if size:
        try:
            found, data = await reads.get_tail(path, size, etag)
            return info_of(key, found), data
        except ObjectDamagedError as error:
            # An object of no bytes has no last ones.
            damage = error
    info = await head(key)
    check_etag(info, etag)
    if damage is not None and info.size:
        raise damage
    return info, b""


def info_of(key: str, found: Any) -> ObjectInfo:
    """Return what an answer says of its object."""
    metadata = {name: value for name, value in found.attributes.items() if name[:1] in OWN_KEYS}
    return listed_info(key, found.meta, untagged(metadata))


def listed_info(key: str, meta: Mapping[str, Any], metadata: Mapping[str, str]) -> ObjectInfo:
    """Return what obstore's description of an object says."""
    return ObjectInfo(
        key=key,
        size=meta["size"],
        etag=quoted(meta["e_tag"]),
        metadata=metadata,
        # HEAD gives whole seconds, a listing may give more.
        modified_ms=int(meta["last_modified"].timestamp()) * 1000,
    )


def quoted(etag: str | None) -> str:
    """Return an etag as a header has it: some listings leave its quotes away."""
    return f'"{etag}"' if etag and not etag.endswith('"') else etag or ""


def _check_etag(path: str, meta: Mapping[str, Any], etag: str | None) -> None:
    """Demand the etag again from the answer: a store may ignore the condition."""
    found = meta["e_tag"]
    if etag is not None and found is not None and quoted(found) != etag:
        raise ObjectChangedError(f"{path!r} has etag {found!r}, expected {etag!r}", key=path)
