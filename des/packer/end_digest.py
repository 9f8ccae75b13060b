"""The SHA-256 of a container's end, by which the catalog knows its bytes.

EXT has the SHA-256 of all bytes before it (docs/format.md, section 18), so that of EXT and FOOTER stands for
every byte of the container, and a few reads of the end of an object give it.
"""

import asyncio
import hashlib
from typing import Final

from des.storage.object_store import ObjectInfo, RangedObjects

READ_SIZE: Final = 8 << 20


async def end_sha256(store: RangedObjects, info: ObjectInfo, ext_start: int) -> str:
    """Return the SHA-256 of an object's bytes from `ext_start`, in hexadecimal.

    Raises:
        DesError: they could not be read.
    """
    digest = hashlib.sha256()
    for start in range(ext_start, info.size, READ_SIZE):
        stop = min(info.size, start + READ_SIZE)
        await asyncio.to_thread(digest.update, await store.get_range(info.key, start, stop, etag=info.etag))
    return digest.hexdigest()
