"""One object written in parts from a stream: bounded memory, nothing visible before the end."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final, TypeAlias

from des.storage.object_store import Body, ObjectDamagedError, ObjectInfo, UploadOverError

Bytes: TypeAlias = bytes | bytearray | memoryview
GATHERED_MAX: Final = 1 << 16
"""Bytes of a piece below which it is copied to those before it: a part of very many pieces costs too much."""


class PartedUpload(ABC):
    """Parts are sent while the next one fills; after an error every call but `abort` raises."""

    def __init__(self, key: str, metadata: Mapping[str, str], *, token: str, part_size: int) -> None:
        """Begin with nothing; the store hears of it when a first part is full."""
        self.key = key
        self.is_under_way = False
        """Whether the store may have parts of it that are still wanted."""
        self._metadata = dict(metadata)
        self._token = token
        self._part_size = part_size
        self._gathered: list[Bytes] = []
        """Of the part that fills, as they came: joined once, when it is sent."""
        self._filled = 0
        """Bytes of theirs."""
        self._size = 0
        self._over = False

    async def write(self, data: bytes) -> None:
        """Append `data`; waits while as many parts are on their way as may be.

        Raises:
            UploadOverError: it was finished, aborted, or failed.
            ObjectTooLongError: too many parts.
            DesError: a part was not taken.
        """
        self._demand_open()
        try:
            # Of what may change when this returns, a copy is kept.
            view = memoryview(data if isinstance(data, bytes) else bytes(data))
            while view:
                # A full part is sent only when more comes: what fits one part needs no parts.
                if self._filled == self._part_size:
                    await self._send_filled()
                taken = view[: self._part_size - self._filled]
                self._fill(taken)
                view = view[len(taken) :]
            self._size += len(data)
        except BaseException:
            self._over = True
            raise

    async def write_body(self, body: Body) -> None:
        """Append a whole body to an upload that has nothing yet.

        Raises:
            ObjectDamagedError: it ends before its own size.
            DesError: as `write`.
        """
        size = body.size()
        offset = 0
        while offset < size:
            data = await asyncio.to_thread(body.pread, min(self._part_size, size - offset), offset)
            if not data:
                raise ObjectDamagedError(f"body of {self.key!r} ends at {offset}, its size is {size}")
            await self.write(data)
            offset += len(data)

    def _fill(self, taken: memoryview) -> None:
        self._filled += len(taken)
        if len(taken) >= GATHERED_MAX:
            self._gathered.append(taken)
        elif self._gathered and isinstance(last := self._gathered[-1], bytearray):
            last += taken
        else:
            self._gathered.append(bytearray(taken))

    def _take_filled(self) -> list[Bytes]:
        """Return what was gathered, which is to be joined, and gather anew."""
        gathered, self._gathered, self._filled = self._gathered, [], 0
        return gathered

    def _drop_filled(self) -> None:
        self._gathered, self._filled = [], 0

    def _demand_open(self) -> None:
        if self._over:
            raise UploadOverError(f"upload of {self.key!r} is over")

    @abstractmethod
    async def finish(self) -> ObjectInfo:
        """Make the object visible and durable, whole.

        Raises:
            UploadOverError: it was finished, aborted, or failed.
            ObjectExistsError: the key was taken meanwhile; nothing was written.
            ObjectStoreUnavailableError: outcome unknown; `head` tells.
            DesError: a part was not taken.
        """

    @abstractmethod
    async def abort(self) -> None:
        """Drop what was written. Safe after any failure, and twice; a finished object stays."""

    @abstractmethod
    async def _send_filled(self) -> None:
        """Send what was gathered as a part, and gather anew."""
