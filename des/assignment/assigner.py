"""Unique names with their shard, the same names again for a repeated request."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from des.errors import AlreadyExistsError, InvalidInputError
from des.naming import SnowflakeNameGenerator, consistent_hash

REMEMBERED_NAMES: Final = 200_000
"""Names of past requests kept for replays; the oldest requests are forgotten first."""


class RequestIdConflictError(AlreadyExistsError):
    """A request id was used before for something else."""

    reason = "REQUEST_ID_CONFLICT"


@dataclass(frozen=True, slots=True)
class AssignedName:
    """A name that nobody else was given, and where it belongs."""

    name: str
    shard: int
    day: str
    """UTC day in the name, YYYYMMDD."""


class NameAssigner:
    """Hands out names and remembers which request got which.

    The memory of requests lasts as long as the process: names are unique whether or not a request is
    recognised, so forgetting one costs only unused names.
    """

    def __init__(self, generator: SnowflakeNameGenerator, *, shard_bits: int, names_max: int) -> None:
        self._generator = generator
        self._shard_bits = shard_bits
        self._names_max = names_max
        self._answers: OrderedDict[str, asyncio.Future[tuple[str, list[AssignedName]]]] = OrderedDict()
        self._remembered = 0

    async def assign(self, count: int, prefix: str, request_id: str) -> list[AssignedName]:
        """Return `count` new names (0 means 1), or those the same `request_id` got before.

        Raises:
            InvalidInputError: count below 0 or above the limit, or a prefix that no name can have.
            RequestIdConflictError: the id was used with another count or prefix.
            UnavailableError: the clock stands behind names already given, or the mark that keeps
                restarts from repeating names could not be stored.
        """
        if not 0 <= count <= self._names_max:
            raise InvalidInputError(
                f"count is {count}, expected 0 to {self._names_max}", field="count", max=self._names_max
            )
        count = count or 1
        if not request_id:
            return await self._make(count, prefix)
        asked = f"{count}:{prefix}"
        known = self._answers.get(request_id)
        if known is not None:
            before, names = await asyncio.shield(known)
            if before != asked:
                raise RequestIdConflictError(
                    f"request id {request_id!r} asked for {before!r} before, now for {asked!r} "
                    "(count:prefix)",
                    request_id=request_id,
                    name=names[0].name,
                )
            return names
        answer: asyncio.Future[tuple[str, list[AssignedName]]] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        try:
            names = await self._make(count, prefix)
        except BaseException as error:
            del self._answers[request_id]
            if isinstance(error, asyncio.CancelledError):
                answer.cancel()
            else:
                answer.set_exception(error)
                answer.exception()  # read here, so that an unheard answer is no warning
            raise
        answer.set_result((asked, names))
        self._remembered += count
        self._forget()
        return names

    async def one(self, prefix: str) -> str:
        """Return one new name."""
        name = self._generator.try_next(prefix or None)
        return name if name is not None else await self._generator.next(prefix or None)

    async def many(self, count: int, prefix: str) -> list[str]:
        """Return `count` new names; errors as for `assign`."""
        return await self._generator.next_many(count, prefix or None)

    async def _make(self, count: int, prefix: str) -> list[AssignedName]:
        names = await self.many(count, prefix)
        return [
            AssignedName(name, consistent_hash(name, self._shard_bits), name.rsplit("_", 3)[1])
            for name in names
        ]

    def _forget(self) -> None:
        while self._remembered > REMEMBERED_NAMES:
            request_id, answer = next(iter(self._answers.items()))
            if not answer.done():
                return
            del self._answers[request_id]
            self._remembered -= len(answer.result()[1])
