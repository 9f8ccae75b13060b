"""What a store really honours, learnt by asking: several take a condition and ignore it.

The probe writes a few small objects under `des-probe/`, removes them, and costs about 30 requests.
"""

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from des.errors import DesError
from des.storage.bucket import BucketStore
from des.storage.object_store import Capabilities, ObjectStoreUnavailableError

WRITERS: Final = 16
"""Creates of one key at once: fewer let a store pass that checks and writes in two steps."""
PROBES: Final = "des-probe/"
"""Start of the keys of probes; what a killed process left there may be removed."""
STALE: Final = '"00000000000000000000000000000000"'
"""An etag that no object has."""
CONTENT: Final = b"0123456789"
"""Of the object whose ranges are asked for."""


_NO_CONDITIONS: Final = (
    "of many creates of one key more than one won: keys are never used twice and only the catalog decides "
    "what counts, so nothing is lost, but never let two stores share bucket and prefix"
)
_NO_CHECKSUMS: Final = (
    "{}: each container is read back before it counts, and every byte is checked when it is read"
)
_NO_READ_CONDITIONS: Final = "If-Match on reads is ignored: the etag of each answer is compared instead"
_NO_DELETE_CONDITIONS: Final = "{}: the object is looked at before it is removed"
_NO_RANGES: Final = "ranges are not served right: files cannot be read from this store"
_NO_COPY: Final = "{} are not copied inside the store: their bytes go through whoever copies them"


@dataclass(frozen=True, slots=True)
class Lacks:
    """What a kind of store says where it lacks something."""

    checksums: str
    conditional_delete: str
    copy: str
    """What is not copied inside the store: parts, or ranges."""


class BucketProbe(ABC):
    """One run; every key it makes is its own."""

    lacks: ClassVar[Lacks]

    def __init__(self, store: BucketStore[Any]) -> None:
        """Name a place for its objects."""
        self._bucket = store
        self._key = f"{PROBES}{store.new_token()}"
        self._made: list[str] = []

    async def run(self) -> Capabilities:
        """Find out, and remove what was made, as far as the store lets us.

        Raises:
            ObjectStoreUnavailableError: it did not answer.
            ObjectStoreRefusedError: wrong credentials, no permission to write, or no bucket.
        """
        await self._bucket.demand_bucket()
        try:
            return await self._find_out()
        finally:
            await self._tidy()

    @abstractmethod
    async def _find_out(self) -> Capabilities: ...

    @abstractmethod
    async def _created(self, name: str, data: bytes) -> bool | None:
        """Whether a conditional create of an object won; None where the store refuses conditions."""

    @classmethod
    def _honours(
        cls,
        kind: str,
        *,
        conditional_create: bool,
        checksums: bool,
        conditional_read: bool,
        conditional_delete: bool,
        ranges: bool,
        server_side_copy: bool,
    ) -> Capabilities:
        """Return what was found, with what is to be known of each thing that is lacking."""
        found = (
            (conditional_create, _NO_CONDITIONS),
            (checksums, _NO_CHECKSUMS.format(cls.lacks.checksums)),
            (conditional_read, _NO_READ_CONDITIONS),
            (conditional_delete, _NO_DELETE_CONDITIONS.format(cls.lacks.conditional_delete)),
            (ranges, _NO_RANGES),
            (server_side_copy, _NO_COPY.format(cls.lacks.copy)),
        )
        return Capabilities(
            kind=kind,
            conditional_create=conditional_create,
            checksums=checksums,
            server_side_copy=server_side_copy,
            survives_node=True,
            conditional_read=conditional_read,
            conditional_delete=conditional_delete,
            ranges=ranges,
            advice=tuple(sentence for is_honoured, sentence in found if not is_honoured),
        )

    async def _one_winner(self) -> bool:
        """Whether of many creates at once exactly one wins, and its bytes are what stays."""
        contents = [bytes([writer]) * 100 for writer in range(WRITERS)]
        won = await asyncio.gather(*(self._created("winner", data) for data in contents))
        if None in won:
            # The store does not know the condition at all: it is left away from now on.
            self._bucket.conditional = False
            return False
        if won.count(True) != 1:
            return False
        kept = await self._bucket.get_range(f"{self._key}/winner", 0, 100)
        return kept == contents[won.index(True)]

    async def _ranges(self, key: str) -> bool:
        """Whether the object of `CONTENT` is served in ranges, and its last bytes without its length."""
        try:
            first = await self._bucket.get_range(key, 0, 1)
            _, last = await self._bucket.get_tail(key, 3)
        except ObjectStoreUnavailableError:
            raise
        except DesError:
            return False
        return (first, last) == (CONTENT[:1], CONTENT[-3:])

    def _name(self, name: str) -> str:
        """Return the key of an object that will be removed."""
        key = f"{self._key}/{name}"
        self._made.append(key)
        return key

    async def _tidy(self) -> None:
        for key in dict.fromkeys(self._made):
            try:
                await self._bucket.delete(key)
            except DesError:
                return
