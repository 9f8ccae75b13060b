"""The door to the object store: immutable named objects, readable by range.

Every backend passes `des.testing.ObjectStoreSuite`; the suite, not this text, settles what a
doubtful case means. Keys use "/" and never start with it.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from des.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptError,
    ExhaustedError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)


class NoSuchObjectError(NotFoundError):
    """The store answered, and no object has this key. Never raised for a store that did not answer."""


class ObjectExistsError(AlreadyExistsError):
    """An object with this key exists; nothing was written."""

    reason = "NAME_CONFLICT"


class ObjectChangedError(UnavailableError):
    """The object's etag is no longer the one the caller knows."""


class ObjectStoreUnavailableError(UnavailableError):
    """The store did not answer, or refused; whether an effect took place is unknown."""

    reason = "BACKEND_UNAVAILABLE"


class ObjectStoreRefusedError(PreconditionError):
    """The store understood and said no, and will again until somebody changes something."""

    reason = "BACKEND_REFUSED"


class ObjectStoreForbiddenError(ObjectStoreRefusedError):
    """Credentials are missing, wrong or too weak. Says nothing about whether an object exists."""


class NoSuchBucketError(ObjectStoreRefusedError):
    """The bucket is not there. Says nothing about its objects."""


class ObjectStoreFullError(ExhaustedError):
    """The store has no room; nothing was written."""

    reason = "DISK_FULL"


class UploadOverError(ConflictError):
    """The upload was finished or aborted, or a write of it failed: it takes nothing more."""


class ObjectDamagedError(CorruptError):
    """The store answered with fewer or other bytes than it said."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says about one object."""

    key: str
    size: int
    """Length in bytes."""
    etag: str
    """Opaque; changes whenever the bytes could have."""
    metadata: Mapping[str, str]
    """As given when the object was made; lower-case keys, ASCII values. A listing may leave it empty."""
    modified_ms: int
    """UTC milliseconds since 1970, by the store's clock; a store may know whole seconds only, and a
    fresh object's time to a few seconds."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store honours, as its start-up probe found."""

    kind: str
    """"local", "memory", "s3", "gcs" or "azure"."""
    conditional_create: bool
    """Of many concurrent creates of one key exactly one wins."""
    checksums: bool
    """The store verifies a checksum sent with the bytes."""
    server_side_copy: bool
    """Bytes can be copied inside the store."""
    survives_node: bool
    """Losing the node's disk does not lose the store."""
    conditional_read: bool = True
    """A read that names another etag is refused."""
    conditional_delete: bool = True
    """A delete that names another etag is refused."""
    ranges: bool = True
    """A range, and the last bytes, can be asked for."""
    advice: tuple[str, ...] = ()
    """What the store lacks, what carries the load instead, and what can be done: one sentence each."""


class Body(Protocol):
    """Bytes to upload, readable more than once. `DiskFile` is one."""

    def size(self) -> int:
        """Return the length in bytes."""
        ...

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes at `offset`."""
        ...


class ObjectUpload(Protocol):
    """An object being written from a stream; nobody sees it before `finish`."""

    async def write(self, data: bytes) -> None:
        """Append `data`. Returns when the upload can take more; memory stays bounded."""
        ...

    async def finish(self) -> ObjectInfo:
        """Make the object visible and durable, whole.

        Raises:
            ObjectExistsError: the key was taken meanwhile; nothing was written.
            ObjectStoreUnavailableError: outcome unknown; `head` tells.
        """
        ...

    async def abort(self) -> None:
        """Drop what was written. Safe after any failure, and twice."""
        ...


@runtime_checkable
class CopyingUpload(ObjectUpload, Protocol):
    """An upload that can also take bytes from objects of the same store, without moving them here.

    What `begin_upload` returns where `Capabilities.server_side_copy` says so.
    """

    async def copy_from(self, key: str, start: int, stop: int, *, etag: str) -> None:
        """Append the bytes `[start, stop)` of another object. Bytes are moved only for pieces under 5 MiB.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is not the object's.
            ObjectDamagedError: the object ends before `stop`.
            ObjectStoreUnavailableError: no answer; the upload is over.
        """
        ...


class RangedObjects(Protocol):
    """What a reader of containers asks of an object store."""

    async def get_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """Return exactly the bytes `[start, stop)`. An empty range costs no request.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectDamagedError: the object ends before `stop`.
            ObjectStoreUnavailableError: no answer; safe to repeat.
            ObjectStoreRefusedError: no permission; whether the object exists is not known.
        """
        ...

    async def get_tail(self, key: str, size: int, *, etag: str | None = None) -> tuple[ObjectInfo, bytes]:
        """Return the last `size` bytes, or all where there are fewer, and what the store says; one request.

        `metadata` may be empty.

        Raises:
            NoSuchObjectError: no such key.
            ObjectChangedError: `etag` is given and is not the object's.
            ObjectStoreUnavailableError: no answer; safe to repeat.
        """
        ...

    async def head(self, key: str) -> ObjectInfo:
        """Return what the store knows about `key`.

        Raises:
            NoSuchObjectError: no such key.
            ObjectStoreUnavailableError: no answer; safe to repeat.
        """
        ...


class ObjectStore(RangedObjects, Protocol):
    """Named immutable objects. Nothing here ever overwrites an object."""

    async def capabilities(self) -> Capabilities:
        """Return what the store honours (probed once, then remembered)."""
        ...

    async def create(self, key: str, body: Body, *, metadata: Mapping[str, str]) -> ObjectInfo:
        """Write `body` whole under a new key, or not at all; durable when it returns.

        Raises:
            ObjectExistsError: the key is taken, by an object that this call did not make.
            ObjectStoreUnavailableError: outcome unknown; `head` tells.
            ObjectStoreRefusedError: the store does not let us write.
            ObjectStoreFullError: no room.
        """
        ...

    async def begin_upload(self, key: str, *, metadata: Mapping[str, str]) -> ObjectUpload:
        """Start writing a new object of unknown size from a stream."""
        ...

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield objects whose key starts with `prefix`, in key order, after `start_after`."""
        ...

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        """Remove an object; an absent one is fine.

        Raises:
            ObjectChangedError: `etag` is given and is not the object's.
        """
        ...

    async def abort_stale_uploads(self, prefix: str, *, begun_before_ms: int) -> int:
        """Drop what unfinished uploads of keys that start with `prefix` left; return how many there were.

        Nobody sees such parts, and somebody pays for them. Only uploads begun before `begun_before_ms` (UTC,
        the store's clock) are dropped. A store that drops them by itself returns 0.
        """
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
