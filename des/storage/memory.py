"""An object store in memory, for tests and for stores that need not outlive their process."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from des.clock import Clock, SystemClock
from des.storage.checks import check_etag, check_key, check_object_metadata, check_range
from des.storage.object_store import (
    Body,
    Capabilities,
    NoSuchObjectError,
    ObjectDamagedError,
    ObjectExistsError,
    ObjectInfo,
    ObjectUpload,
)

_BODY_READ_SIZE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    info: ObjectInfo


class MemoryObjectStore:
    """Keeps objects in a dict of this process."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._objects: dict[str, _Object] = {}
        self._made = 0

    async def capabilities(self) -> Capabilities:
        """Return what a dict honours."""
        return Capabilities(
            kind="memory",
            conditional_create=True,
            checksums=False,
            server_side_copy=False,
            survives_node=False,
        )

    async def create(self, key: str, body: Body, *, metadata: Mapping[str, str]) -> ObjectInfo:
        """Keep `body` under a new key.

        Raises:
            ObjectExistsError: the key is taken.
        """
        check_key(key)
        check_object_metadata(metadata)
        return self.put(key, _read_body(body), metadata)

    async def begin_upload(self, key: str, *, metadata: Mapping[str, str]) -> ObjectUpload:
        """Start gathering a new object."""
        check_key(key)
        check_object_metadata(metadata)
        return _MemoryUpload(self, key, dict(metadata))

    async def get_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """Return exactly the bytes `[start, stop)`.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectDamagedError: the object ends before `stop`.
        """
        check_range(start, stop)
        if start == stop:
            return b""
        kept = self._find(key)
        check_etag(kept.info, etag)
        if stop > len(kept.data):
            raise ObjectDamagedError(f"{key!r} has {len(kept.data)} bytes, expected at least {stop}")
        return kept.data[start:stop]

    async def get_tail(self, key: str, size: int, *, etag: str | None = None) -> tuple[ObjectInfo, bytes]:
        """Return the last `size` bytes and what is known about `key`.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is given and is not the object's.
        """
        kept = self._find(key)
        check_etag(kept.info, etag)
        return kept.info, kept.data[max(0, len(kept.data) - size) :]

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known about `key`.

        Raises:
            NoSuchObjectError: no such key.
        """
        return self._find(key).info

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield objects whose key starts with `prefix`, in key order, after `start_after`."""
        for key in sorted(key for key in self._objects if key.startswith(prefix) and key > start_after):
            kept = self._objects.get(key)
            if kept is not None:
                yield kept.info

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        """Forget an object; an absent one is fine.

        Raises:
            ObjectChangedError: `etag` is given and is not the object's.
        """
        check_key(key)
        kept = self._objects.get(key)
        if kept is not None:
            check_etag(kept.info, etag)
            del self._objects[key]

    async def abort_stale_uploads(self, prefix: str, *, begun_before_ms: int) -> int:  # noqa: ARG002
        """Nothing is left of an upload that nobody holds."""
        return 0

    async def close(self) -> None:
        """Nothing to give back; the objects stay."""

    def put(self, key: str, data: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        """Keep whole bytes under a new key.

        Raises:
            ObjectExistsError: the key is taken.
        """
        if key in self._objects:
            raise ObjectExistsError(f"object {key!r} exists", key=key)
        self._made += 1
        info = ObjectInfo(
            key=key,
            size=len(data),
            etag=f"memory-{self._made}",
            metadata=dict(metadata),
            modified_ms=self._clock.now_ms(),
        )
        self._objects[key] = _Object(data, info)
        return info

    def _find(self, key: str) -> _Object:
        check_key(key)
        try:
            return self._objects[key]
        except KeyError:
            raise NoSuchObjectError(f"no object {key!r}", key=key) from None


class _MemoryUpload:
    def __init__(self, store: MemoryObjectStore, key: str, metadata: Mapping[str, str]) -> None:
        self._store = store
        self._key = key
        self._metadata = metadata
        self._parts: list[bytes] | None = []

    async def write(self, data: bytes) -> None:
        self._open_parts().append(bytes(data))

    async def finish(self) -> ObjectInfo:
        data = b"".join(self._open_parts())
        self._parts = None
        return self._store.put(self._key, data, self._metadata)

    async def abort(self) -> None:
        self._parts = None

    def _open_parts(self) -> list[bytes]:
        if self._parts is None:
            raise ValueError(f"upload of {self._key!r} is over")
        return self._parts


def _read_body(body: Body) -> bytes:
    """Return a body's bytes, whole.

    Raises:
        ObjectDamagedError: it ends before its own size.
    """
    size = body.size()
    parts: list[bytes] = []
    offset = 0
    while offset < size:
        part = body.pread(min(_BODY_READ_SIZE, size - offset), offset)
        if not part:
            raise ObjectDamagedError(f"body ends at {offset}, its size is {size}")
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
