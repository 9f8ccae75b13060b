"""The uploads that this process has under way, so that none of them is taken for one left behind.

Whoever drops old uploads judges by when the store says they began, and a store may say anything: moto says
2010, others nothing at all.
"""

from typing import Final, Protocol
from weakref import WeakSet

DATES_FROM_MS: Final = 1_577_836_800_000
"""1 January 2020. A store that dates an upload before it keeps no dates of uploads: there was no DES."""


class Upload(Protocol):
    """What has to be known of an upload."""

    key: str
    """Of the object that it will be."""
    is_under_way: bool
    """Whether the store may have parts of it that are still wanted."""


class UploadsUnderWay:
    """Those of one store. One that nobody refers to any more will never be finished, and counts no longer."""

    def __init__(self) -> None:
        self._uploads: WeakSet[Upload] = WeakSet()

    def add(self, upload: Upload) -> None:
        """Take one that begins."""
        self._uploads.add(upload)

    def __contains__(self, key: object) -> bool:
        """Whether an object of this key is being written.

        By its key, since no id is known of an upload that begins.
        """
        return any(upload.key == key and upload.is_under_way for upload in self._uploads)


def is_stale(begun_ms: int, *, begun_before_ms: int) -> bool:
    """Whether an upload began before a time, by a date that can be believed.

    >>> is_stale(DATES_FROM_MS + 1, begun_before_ms=DATES_FROM_MS + 2), is_stale(0, begun_before_ms=2)
    (True, False)
    """
    return DATES_FROM_MS <= begun_ms < begun_before_ms
