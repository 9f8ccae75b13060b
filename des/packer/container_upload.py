"""Upload of a container (DESIGN §4, steps 3 and 4)."""

from des.db.catalog import ContainerRow
from des.packer.container_builder import BuiltContainer
from des.packer.object_metadata import CONTAINER_ID, SHA256, encode_metadata
from des.packer.settled_create import check_ours, head_of_ours, settled
from des.storage.object_store import NoSuchObjectError, ObjectInfo, ObjectStore


async def upload_container(store: ObjectStore, built: BuiltContainer) -> ObjectInfo:
    """Make sure that the container's object exists, whole, and return what the store says of it.

    Of a long one all parts are there already: it appears under its key now, and not before.

    Raises:
        ForeignObjectError: the key holds something else; it is left alone.
        UnavailableError: not settled; safe to repeat.
    """
    row = built.row
    size = row.geometry.size
    if built.upload is None:
        identity = {CONTAINER_ID: row.container_id, SHA256: row.sha256}
        making = store.create(row.key, built.body, metadata=encode_metadata(row))
    else:
        identity = {CONTAINER_ID: row.container_id}
        making = built.upload.finish()
    await settled(making, store, row.key, size=size, identity=identity)
    return await head_of_ours(store, row.key, size=size, identity=identity)


async def find_uploaded(store: ObjectStore, announced: ContainerRow) -> ObjectInfo | None:
    """Return what the store says of an announced container's object; None when it is not there, or not yet.

    Where its metadata does not say the SHA-256, `check_readable` does.

    Raises:
        ForeignObjectError: the key holds something else; it is left alone.
        UnavailableError: the store did not answer.
    """
    identity = {CONTAINER_ID: announced.container_id}
    try:
        info = await head_of_ours(store, announced.key, size=announced.geometry.size, identity=identity)
        if SHA256 in info.metadata:
            check_ours(info, size=info.size, identity={SHA256: announced.sha256})
    except NoSuchObjectError:
        return None
    return info
