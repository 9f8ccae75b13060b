"""Work that goes with a node for as long as it is open, such as packing rows of source databases."""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

import structlog

from des.errors import DesError

_log = structlog.get_logger(__name__)

STOP_S: Final = 30.0
"""How long a companion may take to end the round it is in."""


class Companion(Protocol):
    """Background work beside a node."""

    async def run(self) -> None:
        """Work until `stop`, or until cancelled."""
        ...

    def stop(self) -> None:
        """Begin nothing new; `run` returns soon."""
        ...

    async def close(self) -> None:
        """Give back what the work holds; the node is still open."""
        ...

    def troubles(self) -> Mapping[str, str]:
        """Return what does not answer now, with what it said last; empty when all is well."""
        ...


class Companions:
    """The companions of one node."""

    def __init__(self) -> None:
        self._running: list[tuple[Companion, asyncio.Task[None]]] = []

    def add(self, companion: Companion) -> None:
        """Start one."""
        self._running.append((companion, asyncio.ensure_future(companion.run())))

    def __bool__(self) -> bool:
        return bool(self._running)

    def troubles(self) -> dict[str, str]:
        """Return what does not answer any of them."""
        return {what: said for companion, _ in self._running for what, said in companion.troubles().items()}

    def stop(self) -> None:
        """Have all begin nothing new."""
        for companion, _ in self._running:
            companion.stop()

    async def close(self) -> None:
        """Let each end its round, or cut it off when it takes too long. Twice is once."""
        self.stop()
        running, self._running = self._running, []
        for companion, task in running:
            await asyncio.wait([task], timeout=STOP_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            try:
                await companion.close()
            except DesError as error:
                _log.warning("not all that was stored is settled, the next start does it", error=str(error))
