"""Drops what uploads left that nobody finished: parts are seen by no listing, and somebody pays for them."""

from typing import Final

import structlog

from des.clock import Clock
from des.config import Settings
from des.db.catalog import Catalog
from des.errors import DesError
from des.storage.object_store import ObjectStore

_log = structlog.get_logger(__name__)

AGE_S: Final = 24 * 3600.0
"""An upload that began this long ago, and longer than a resumable one may take, is nobody's."""
FIRST_S: Final = 600.0
"""After a start, which has more urgent things to ask of the store."""
EVERY_S: Final = 24 * 3600.0
RETRY_S: Final = 600.0


class StaleUploads:
    """Looks once after each start of the node, and once a day."""

    def __init__(self, *, settings: Settings, catalog: Catalog, store: ObjectStore, clock: Clock) -> None:
        """Connect.

        Args:
            settings: of the node.
            catalog: whose clock has a say too: the earlier of the two counts.
            store: has the uploads, of all nodes.
            clock: of this machine.
        """
        self._prefix = f"{settings.object_prefix.strip('/')}/" if settings.object_prefix.strip("/") else ""
        self._age_ms = int(1000 * max(AGE_S, 2 * settings.limits.upload_ttl_s))
        self._catalog = catalog
        self._store = store
        self._clock = clock

    async def step(self) -> int:
        """Drop old uploads, and return how many there were.

        Raises:
            DesError: catalog or store did not answer; what was not dropped stays.
        """
        now_ms = min(self._clock.now_ms(), await self._catalog.now_ms())
        dropped = await self._store.abort_stale_uploads(self._prefix, begun_before_ms=now_ms - self._age_ms)
        if dropped:
            _log.info("unfinished uploads dropped", uploads=dropped)
        return dropped

    async def run(self) -> None:
        """Repeat `step` until cancelled; what fails is logged and tried again."""
        await self._clock.sleep(FIRST_S)
        while True:
            try:
                await self.step()
            except DesError as error:
                _log.warning("unfinished uploads were not looked for", error=str(error))
                await self._clock.sleep(RETRY_S)
            else:
                await self._clock.sleep(EVERY_S)
