"""A container's bytes on their way: made in a thread, taken by an upload beside it, the end of them kept."""

import asyncio
from collections.abc import Sequence

from des.storage.object_store import ObjectUpload


class KeptBytes:
    """The last bytes of a container, or all of a short one, in memory: a body as far as it goes."""

    def __init__(self, start: int, parts: Sequence[bytes]) -> None:
        self.start = start
        """Where they begin in the container."""
        self.data = bytearray().join(parts)

    def size(self) -> int:
        """Return the length of the whole container."""
        return self.start + len(self.data)

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes at `offset` of the container.

        Raises:
            ValueError: they are not kept.
        """
        if offset < self.start:
            raise ValueError(f"bytes at {offset} are gone, kept are those from {self.start}")
        begin = offset - self.start
        return bytes(memoryview(self.data)[begin : begin + size])


class ContainerStream:
    """A binary sink of one thread; between its writes the event loop hands on what it took.

    What is in memory at once is what was made since the last `hand_on`, as much again on its way, and what
    the upload itself holds.
    """

    def __init__(self, upload: ObjectUpload | None) -> None:
        """Hand bytes to `upload`; without one keep them all."""
        self._upload = upload
        self._made: list[bytes] = []
        self._handed = 0
        """Bytes handed to the upload, or on their way to it."""
        self._handing: asyncio.Task[None] | None = None

    def write(self, data: bytes | memoryview, /) -> int:
        """Take all of `data`, which nobody may change; nothing is copied."""
        whole = data.obj if isinstance(data, memoryview) else data
        self._made.append(whole if isinstance(whole, bytes) and len(whole) == len(data) else bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back from the loop."""

    async def hand_on(self) -> None:
        """Start to hand on what was made, when what was made before has been taken.

        Raises:
            DesError: the upload did not take it.
        """
        if self._upload is None or not self._made:
            return
        await self._taken()
        parts, self._made = self._made, []
        self._handed += sum(map(len, parts))
        self._handing = asyncio.ensure_future(self._hand(self._upload, parts))

    async def end(self) -> KeptBytes:
        """Hand on the rest, and return it; of a container without an upload everything. Same errors."""
        kept = KeptBytes(self._handed, self._made)
        await self.hand_on()
        await self._taken()
        return kept

    async def drop(self) -> None:
        """Hand on nothing more. Twice is once."""
        handing, self._handing = self._handing, None
        if handing is not None:
            handing.cancel()
            await asyncio.gather(handing, return_exceptions=True)
        self._made.clear()

    async def _taken(self) -> None:
        if self._handing is not None:
            await self._handing

    @staticmethod
    async def _hand(upload: ObjectUpload, parts: Sequence[bytes]) -> None:
        for part in parts:
            await upload.write(part)
