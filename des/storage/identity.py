"""Whose objects these are: a small object that names the store, made with it and checked at every start.

Without it a wrong bucket or prefix looks like a store that lost everything, and garbage collection like a
duty.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from des.errors import PreconditionError
from des.storage.bytes_body import BytesBody
from des.storage.object_store import (
    NoSuchObjectError,
    ObjectDamagedError,
    ObjectExistsError,
    ObjectStore,
)

STORE_ID: Final = "des-store-id"
"""Key of the object, after the prefix of the store's keys."""
_LENGTH_MAX: Final = 256
_ASKED: Final = 3
"""Objects looked for before a store without identity is believed to be ours."""


class WrongStoreError(PreconditionError):
    """The object store belongs to another DES store than the catalog does."""

    reason = "BACKEND_REFUSED"


def identity_key(object_prefix: str) -> str:
    """Return the key of the identity under the setting `object_prefix`.

    >>> identity_key(""), identity_key("/a/b/")
    ('des-store-id', 'a/b/des-store-id')
    """
    return "/".join(part for part in (object_prefix.strip("/"), STORE_ID) if part)


async def read_identity(store: ObjectStore, *, object_prefix: str = "") -> str | None:
    """Return the id of the DES store whose objects these are; None where nothing says so yet. Two requests.

    Raises:
        ObjectDamagedError: the object is no identity.
        ObjectStoreUnavailableError, ObjectStoreRefusedError: not known now.
    """
    key = identity_key(object_prefix)
    try:
        info = await store.head(key)
    except NoSuchObjectError:
        return None
    if not 0 < info.size <= _LENGTH_MAX:
        raise ObjectDamagedError(f"{key!r} has {info.size} bytes, expected 1 to {_LENGTH_MAX}", key=key)
    data = await store.get_range(key, 0, info.size, etag=info.etag)
    try:
        return data.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ObjectDamagedError(f"{key!r} holds {data[:40]!r}, expected a store's id", key=key) from None


async def check_identity(
    store: ObjectStore,
    store_id: str,
    *,
    object_prefix: str = "",
    known_keys: Callable[[], Awaitable[Sequence[str]]],
) -> None:
    """Demand that the objects are those of the DES store `store_id`, and write so where nothing does.

    Args:
        store: the object store.
        store_id: as the catalog has it.
        object_prefix: before every key.
        known_keys: gives keys that the catalog says are stored; asked only where no identity is found.

    Raises:
        WrongStoreError: they are another's, or the catalog knows objects and none of them is here.
        ObjectStoreUnavailableError, ObjectStoreRefusedError: not known now.
    """
    found = await read_identity(store, object_prefix=object_prefix)
    if found is None:
        await _demand_known(store, await known_keys())
        body = BytesBody(f"{store_id}\n".encode())
        with suppress(ObjectExistsError):  # another node was first
            await store.create(identity_key(object_prefix), body, metadata={})
        found = await read_identity(store, object_prefix=object_prefix)
    if found != store_id:
        raise WrongStoreError(
            f"the objects belong to DES store {found!r}, the catalog to {store_id!r}: bucket, prefix or "
            "catalog is the wrong one; if the catalog was lost, it has to be made anew from the objects",
            found=found,
            expected=store_id,
        )


async def _demand_known(store: ObjectStore, keys: Sequence[str]) -> None:
    """Raise when the catalog knows objects and the first of them are all absent."""
    for key in keys[:_ASKED]:
        try:
            await store.head(key)
        except NoSuchObjectError:
            continue
        return
    if keys:
        raise WrongStoreError(
            f"the catalog knows {len(keys)} containers and the object store has none of the first "
            f"{min(_ASKED, len(keys))}, such as {keys[0]!r}: bucket or prefix is the wrong one",
        )
