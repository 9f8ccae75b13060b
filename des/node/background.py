"""The work that a node does by itself for as long as it is open.

Each piece handles the failures it knows. What nobody foresaw must not end it: a node that has stopped
sealing or renewing its locks without a word looks well until its log is full. So such an error is logged
with its trace, shown by health, and the work begins again.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeAlias

import structlog

from des.clock import Clock

_log = structlog.get_logger(__name__)

AGAIN_S: Final = 5.0
"""From an error until the work begins again: what fails at once must not fill the log of messages."""
SHOWN_S: Final = 600.0
"""How long health tells of an error."""


Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Works until cancelled, or until there is nothing left to do; may be begun again after an error."""


class Background:
    """Runs pieces of work, and begins again what breaks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.tasks: list[asyncio.Task[None]] = []
        self._broke: dict[str, tuple[float, str]] = {}
        """What broke, to when it last did (monotonic seconds) and by what."""

    def start(self, works: Mapping[str, Work]) -> None:
        """Begin them all; their names are for people."""
        self.tasks += [asyncio.ensure_future(self._keep(name, work)) for name, work in works.items()]

    def troubles(self) -> dict[str, str]:
        """Return what broke lately, with the error of each."""
        since = self._clock.monotonic() - SHOWN_S
        return {name: error for name, (broke_at, error) in self._broke.items() if broke_at > since}

    async def close(self) -> None:
        """Cancel the work and wait for its end."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _keep(self, name: str, work: Work) -> None:
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001  the point of this module
                _log.exception("background work broke, begins again", work=name)
                self._broke[name] = (self._clock.monotonic(), repr(error))
                await self._clock.sleep(AGAIN_S)
            else:
                return
