"""A file too large for a container, on its way to the object store (DESIGN §3)."""

import contextlib
from typing import Final, Self

from des.errors import DesError
from des.format.checksums import Checksums
from des.ingest.facts import ExternalObject
from des.storage.object_store import ObjectStore, ObjectUpload

EXTERNAL_BLOCK_SIZE: Final = 4 << 20
"""Bytes per checksum block: 16 GiB give 16 KiB of checksums in the file's metadata."""


class BigFileUpload:
    """Streams to one object and sums its blocks, holding no more than the upload itself buffers."""

    def __init__(self, upload: ObjectUpload, key: str) -> None:
        self._upload = upload
        self._key = key
        self._checksums = Checksums(EXTERNAL_BLOCK_SIZE)

    @classmethod
    async def begin(cls, store: ObjectStore, key: str) -> Self:
        """Start an object that must not exist yet."""
        return cls(await store.begin_upload(key, metadata={"des-kind": "big-file"}), key)

    async def write(self, data: bytes) -> None:
        """Append `data`."""
        self._checksums.update(data)
        await self._upload.write(data)

    async def finish(self) -> ExternalObject:
        """Make the object durable and say how to verify any part of it."""
        info = await self._upload.finish()
        return ExternalObject(
            key=self._key,
            etag=info.etag,
            block_size=EXTERNAL_BLOCK_SIZE,
            block_crc32c=self._checksums.block_crc32c,
        )

    async def abort(self) -> None:
        """Drop what was uploaded. A store that does not answer keeps a leftover that nobody names."""
        with contextlib.suppress(DesError):
            await self._upload.abort()
