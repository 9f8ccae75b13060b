"""One file arriving in parts: in memory, in blocks of the log, or in the object store, by its length."""

import asyncio
import dataclasses
import hashlib
from typing import TYPE_CHECKING

import google_crc32c

from des.files import BLOCK_SIZE, FileSpec
from des.ingest.facts import FileFacts
from des.ingest.values import Extent, FileDraft
from des.node.big_file import BigFileUpload
from des.node.put_result import PutResult
from des.node.write_rules import UploadChecksumMismatchError, UploadSizeMismatchError

if TYPE_CHECKING:
    from des.node.write_path import WritePath


class Upload:
    """One file arriving in parts; at most one block of it is in memory.

    Up to a block it stays in memory, up to `big_file_bytes` its blocks go into the log as they come,
    beyond that the whole goes to the object store.
    """

    def __init__(self, path: "WritePath", spec: FileSpec, *, name: str, day: int, shard: int) -> None:
        self._path = path
        self._spec = spec
        self._name = name
        self._day = day
        self._shard = shard
        self._buffer = bytearray()
        self._blocks: list[Extent] = []
        self._big: BigFileUpload | None = None
        self._crc32c = 0
        self._sha256 = hashlib.sha256()
        self._ended = False
        self.received = 0
        """Bytes taken so far."""

    async def write(self, data: bytes) -> None:
        """Append `data`; returns when the upload can take more.

        Raises:
            UploadSizeMismatchError: more bytes than declared.
            FileTooLargeError: more bytes than a file may have.
        """
        if self._ended:
            raise RuntimeError("write after finish or abort")
        received = self.received + len(data)
        if self._spec.size is not None and received > self._spec.size:
            raise UploadSizeMismatchError(
                f"at least {received} bytes arrived, {self._spec.size} were declared",
                expected=self._spec.size,
                actual=received,
            )
        self._path.check_size(received)
        self.received = received
        self._crc32c = google_crc32c.extend(self._crc32c, data)
        if self._big is None and received > self._path.big_file_bytes:
            await self.go_big()
        if self._big is not None:
            # SHA-256 is the slowest part of a long stream; it and the disk need not wait for each other.
            await asyncio.gather(asyncio.to_thread(self._sha256.update, data), self._big.write(data))
            return
        self._sha256.update(data)
        self._buffer += data
        while len(self._buffer) > BLOCK_SIZE:
            await self._append_block(bytes(self._buffer[:BLOCK_SIZE]))
            del self._buffer[:BLOCK_SIZE]

    async def go_big(self) -> None:
        """Move to the object store what has arrived, and send there what comes."""
        self._big = await self._path.begin_big_file(name=self._name, day=self._day, shard=self._shard)
        for extent in self._blocks:
            await self._big.write(await self._path.read_block(extent))
        self._path.release_blocks(self._blocks)
        self._blocks = []
        await self._big.write(bytes(self._buffer))
        self._buffer.clear()

    async def finish(self, crc32c: int | None, sha256: bytes | None = None) -> PutResult:
        """Compare with what the client summed, make the file durable, acknowledge.

        Raises:
            UploadSizeMismatchError, UploadChecksumMismatchError: nothing was written.
            AlreadyExistsError: the name or request id stands for other content.
        """
        if self._ended:
            raise RuntimeError("finish after finish or abort")
        self._compare(crc32c, sha256)
        spec = self._spec
        facts = FileFacts(spec.content_type, spec.metadata, spec.request_id)
        data: bytes | None = None
        if self._big is not None:
            facts = dataclasses.replace(facts, external=await self._big.finish())
        elif self._blocks:
            if self._buffer:
                await self._append_block(bytes(self._buffer))
        else:
            data = bytes(self._buffer)
        self._buffer.clear()
        draft = FileDraft(
            name=self._name,
            day=self._day,
            shard=self._shard,
            size=self.received,
            crc32c=self._crc32c,
            facts=facts.encode(),
            data=data,
            blocks=tuple(self._blocks),
        )
        # From here on the log owns the blocks: a failed or cancelled append may still have happened.
        self._ended = True
        return await self._path.commit(spec, draft, facts)

    async def abort(self) -> None:
        """Give everything back. Safe twice, and after anything."""
        if self._ended:
            return
        self._ended = True
        self._path.release_blocks(self._blocks)
        self._buffer.clear()
        if self._big is not None:
            await self._big.abort()

    async def _append_block(self, block: bytes) -> None:
        self._blocks.append(await self._path.append_block(block, google_crc32c.value(block)))

    def _compare(self, crc32c: int | None, sha256: bytes | None) -> None:
        if self._spec.size is not None and self.received != self._spec.size:
            raise UploadSizeMismatchError(
                f"{self.received} bytes arrived, {self._spec.size} were declared",
                expected=self._spec.size,
                actual=self.received,
            )
        if crc32c is not None and crc32c != self._crc32c:
            raise UploadChecksumMismatchError(
                f"the file's CRC32C is {self._crc32c:08x}, the client declared {crc32c:08x}",
                expected=f"{crc32c:08x}",
                actual=f"{self._crc32c:08x}",
                scope="file",
            )
        if sha256 is not None and sha256 != self._sha256.digest():
            raise UploadChecksumMismatchError(
                f"the file's SHA-256 is {self._sha256.hexdigest()}, the client declared {sha256.hex()}",
                expected=sha256.hex(),
                actual=self._sha256.hexdigest(),
                scope="file",
            )
