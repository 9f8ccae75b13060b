"""The door to the objects that rows point at: read whole or in parts, never written."""

from typing import Protocol

from des.errors import InvalidInputError, NotFoundError, PreconditionError, UnavailableError

CHUNK: int = 1 << 20
"""Bytes of a long object that are read at a time; a shorter one is read whole."""


class ObjectMissingError(NotFoundError):
    """The service answered that there is no such object, or no such bucket."""


class ObjectForbiddenError(PreconditionError):
    """The service refuses this one object: no right to it, or it lies in an archive class."""


class ObjectDiffersError(PreconditionError):
    """The object has another etag than the one asked for."""


class ObjectsUnavailableError(UnavailableError):
    """No answer, or none now; also credentials that are refused as such: no single row's fault."""


class ObjectTooLargeError(InvalidInputError):
    """The object is longer than asked for; nothing of it was read."""

    reason = "FILE_TOO_LARGE"


class OpenObject(Protocol):
    """One object whose head was answered; close it in any case."""

    @property
    def size(self) -> int:
        """Length in bytes, as the service says."""
        ...

    @property
    def etag(self) -> str:
        """Without quotes; empty where the service gives none."""
        ...

    @property
    def first(self) -> bytes:
        """The whole of a short object; of one longer than `CHUNK` nothing yet."""
        ...

    async def read(self) -> bytes:
        """Return the next bytes, about `CHUNK` at a time; empty at the end.

        Raises:
            ObjectsUnavailableError: the rest did not come.
        """
        ...

    async def close(self) -> None:
        """Give the connection back. Safe twice."""
        ...


class SourceObjects(Protocol):
    """The objects of one source."""

    async def open(
        self, bucket: str, key: str, *, etag: str | None, size: int | None, size_max: int
    ) -> OpenObject:
        """Ask for an object; a short one is read at once.

        Args:
            bucket: where it is.
            key: as it is spelt.
            etag: what it must still have; None for any.
            size: bytes it is said to have, which tells how to ask; None where nobody said.
            size_max: of a longer one nothing is read.

        Raises:
            ObjectMissingError: it is not there.
            ObjectForbiddenError: it may not be read.
            ObjectDiffersError: `etag` is given and is not the object's.
            ObjectTooLargeError: it is longer than `size_max`.
            ObjectsUnavailableError: no answer; says nothing about the object.
        """
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
