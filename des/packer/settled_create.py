"""Making an object under a key of our own, with every ambiguous answer settled by looking.

A create that was refused or not answered is a question, not a failure: the object under the key is
compared with ours (DESIGN §4). The keys are unique, so nothing is ever overwritten.
"""

from collections.abc import Awaitable, Mapping

from des.errors import AlreadyExistsError, CorruptError, UnavailableError
from des.storage.object_store import Body, NoSuchObjectError, ObjectInfo, ObjectStore


class ForeignObjectError(CorruptError):
    """Under a key that only we use lies an object that is not ours; it is left alone."""


async def settled_create(
    store: ObjectStore, key: str, body: Body, *, metadata: Mapping[str, str], identity: Mapping[str, str]
) -> ObjectInfo:
    """Make sure that our object exists under `key`, whole, and return what the store says of it.

    May be repeated with the same bytes at any time. `identity` is the part of `metadata` by which our
    own object is known, besides its size.

    Raises:
        ForeignObjectError: the key holds something else; it is left alone.
        UnavailableError: not settled; safe to repeat.
    """
    making = store.create(key, body, metadata=metadata)
    return await settled(making, store, key, size=body.size(), identity=identity)


async def settled(
    making: Awaitable[ObjectInfo], store: ObjectStore, key: str, *, size: int, identity: Mapping[str, str]
) -> ObjectInfo:
    """Await what makes our object of `size` bytes under `key`; returns and raises as `settled_create`."""
    try:
        info = await making
    except AlreadyExistsError:
        return await head_of_ours(store, key, size=size, identity=identity)
    except UnavailableError as error:
        try:
            return await head_of_ours(store, key, size=size, identity=identity)
        except NoSuchObjectError:
            # Not final: the write may still land, which is harmless under a unique key.
            raise error from None
    return info


async def head_of_ours(store: ObjectStore, key: str, *, size: int, identity: Mapping[str, str]) -> ObjectInfo:
    """Return what the store says of our object under `key`.

    An answer to HEAD that is cut off within its head looks whole, and lacks what it did not bring: another's
    object is one only when a second look finds the same.

    Raises:
        ForeignObjectError: the key holds something else; it is left alone.
        NoSuchObjectError: nothing is there.
        UnavailableError: the store did not answer.
    """
    try:
        return check_ours(await store.head(key), size=size, identity=identity)
    except ForeignObjectError:
        return check_ours(await store.head(key), size=size, identity=identity)


def check_ours(info: ObjectInfo, *, size: int, identity: Mapping[str, str]) -> ObjectInfo:
    """Return `info` if it is that of our object.

    Raises:
        ForeignObjectError: it is not.
    """
    found = {key: info.metadata.get(key) for key in identity}
    if info.size != size or found != dict(identity):
        raise ForeignObjectError(
            f"object {info.key!r} has {info.size} bytes and {found}, "
            f"expected {size} bytes and {dict(identity)}",
            key=info.key,
        )
    return info
