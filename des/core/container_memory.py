"""What is kept of one container between reads, beside its pages."""

from typing import Final

from des.format.dictionaries import Dictionaries
from des.format.ext import Ext
from des.format.fuse_filter import FuseFilter
from des.format.hash_pages import READ_SIZE
from des.format.name_key import hash_of
from des.format.names import NamesDirectory

REQUEST_COST: Final = 1 << 16
"""Bytes whose transfer takes about as long as an object store needs to answer at all."""
FIXED_BYTES: Final = 2048
"""Bytes that a container costs with nothing loaded, as measured: objects, section table."""
NAMES_BLOCK_BYTES: Final = 300
"""Bytes that the directory of NAMES costs for a block of 512 names, as measured."""


class ContainerMemory:
    """What readers of one container share: each part is loaded when first needed.

    At most about 2 bytes a file with everything loaded: FILTER 1.13, directory of NAMES 0.6, INDEXDIR 0.25;
    beside them the dictionaries, at most 14 of 128 KiB.
    """

    def __init__(self) -> None:
        self.ext: Ext | None = None
        """The section table, once read."""
        self.directory: bytes | None = None
        """INDEXDIR, whole and proven."""
        self.names: NamesDirectory | None = None
        self.filter: FuseFilter | None = None
        self.dictionaries: Dictionaries | None = None
        self._vain = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes kept, about."""
        return (
            FIXED_BYTES
            + (0 if self.directory is None else len(self.directory))
            + (0 if self.names is None else NAMES_BLOCK_BYTES * len(self.names.firsts))
            + (0 if self.filter is None else len(self.filter.fingerprints))
            + (0 if self.dictionaries is None else self.dictionaries.memory_bytes)
        )

    def dictionaries_of(self, data_start: int) -> Dictionaries:
        """Return the container's dictionaries, those read before among them."""
        if self.dictionaries is None:
            self.dictionaries = Dictionaries(data_start)
        return self.dictionaries

    def denies(self, digest: bytes) -> bool:
        """Whether FILTER, where it is loaded, says that the container has no such name."""
        return self.filter is not None and hash_of(digest) not in self.filter

    def note_vain(self) -> None:
        """Note that a page was fetched for a name that was not in it."""
        self._vain += 1

    def filter_pays(self, file_count: int) -> bool:
        """Whether pages fetched in vain have cost as much by now as FILTER would.

        So a container in which names are often sought in vain gets its filter soon, one that is asked for
        its own names never, and reading it costs at most as much again as not having it did.
        """
        if self.filter is not None or not self._vain:
            return False
        filter_bytes = file_count * 9 // 8
        return self._vain * (REQUEST_COST + READ_SIZE) >= 2 * REQUEST_COST + filter_bytes
