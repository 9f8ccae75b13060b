"""INDEX, META and what EXT will say, gathered while a container's files are written."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from des.core.container_index import FIXED_TYPE
from des.core.ext_builder import ExtBuilder
from des.core.waiting_files import PLACE_TYPE, LaidOut, Places
from des.format.errors import InvalidEntryError
from des.format.footer import INDEX_LENGTH_MAX, Footer
from des.format.index import ENTRY_SIZE_MIN, FIXED, NAME_LENGTH

_CHUNK_FILES: Final = 1 << 16
"""Entries of INDEX made at once, which bounds memory."""


class Contents:
    """Notes each file that stands in DATA, or waits to; knows every name."""

    def __init__(self, *, framed: bool, ext: bool) -> None:
        self.names: Final[set[bytes]] = set()
        """Of all files, as they stand in the container."""
        self._framed = framed
        self._ext = ext
        self._written: list[bytes] = []
        """The same names, of files that were laid out, in their order."""
        self._places: list[Places] = []
        self._meta = bytearray()
        """META of a v1 container, which stands behind all of DATA."""
        self._index_length = 0

    @property
    def meta_length(self) -> int:
        """Bytes of META so far."""
        return len(self._meta)

    def take_name(self, name: bytes) -> None:
        """Take the name of a file that will be laid out.

        Raises:
            InvalidEntryError: INDEX has no room for it.
        """
        length = self._index_length + ENTRY_SIZE_MIN + len(name)
        if length > INDEX_LENGTH_MAX:
            raise InvalidEntryError(f"INDEX would be longer than {INDEX_LENGTH_MAX} bytes")
        self._index_length = length
        self.names.add(name)

    def add(self, laid_out: LaidOut) -> None:
        """Note where files are that were laid out."""
        self._written += laid_out.names
        self._places.append(laid_out.places)
        self._meta += laid_out.meta

    def seal(self, *, data_start: int, meta_start: int) -> tuple[Footer, bytes, bytes]:
        """Return FOOTER, META and INDEX of a container whose DATA is complete."""
        places = np.concatenate(self._places) if self._places else np.zeros(0, PLACE_TYPE)
        if not self._framed:
            places["meta_offset"] += np.uint64(meta_start)
        self._places = [places]
        index = b"".join(
            _encode_entries(self._written[low : low + _CHUNK_FILES], places[low : low + _CHUNK_FILES])
            for low in range(0, len(places), _CHUNK_FILES)
        )
        footer = Footer(
            data_start=data_start,
            data_length=meta_start - data_start,
            meta_start=meta_start,
            meta_length=len(self._meta),
            index_start=meta_start + len(self._meta),
            index_length=len(index),
            file_count=len(places),
        )
        return footer, bytes(self._meta), index

    def ext(
        self,
        footer: Footer,
        meta: bytes,
        index: bytes,
        checksums: Callable[[], tuple[tuple[int, ...], bytes | None]],
        container_id: UUID | None,
    ) -> Iterator[bytes] | None:
        """Return EXT in parts; None where the container is to have none. `checksums` are those before it."""
        if not self._ext:
            return None
        (places,) = self._places
        builder = ExtBuilder()
        lengths = np.fromiter(map(len, self._written), np.int64, len(places)) + ENTRY_SIZE_MIN
        meta_positions = (
            np.zeros(len(places), np.int64) if self._framed else places["meta_offset"] - footer.meta_start
        )
        builder.add_many(places, index_positions=np.cumsum(lengths) - lengths, meta_positions=meta_positions)
        # In the order of writing, in which they are often sorted already.
        return builder.finish(
            footer,
            sorted(self._written),
            index=index,
            meta=meta,
            checksums=checksums(),
            container_id=container_id,
        )


def _encode_entries(names: Sequence[bytes], places: Places) -> bytes:
    """Return entries of INDEX that follow each other."""
    fixed: npt.NDArray[Any] = np.empty(len(names), FIXED_TYPE)
    for field in FIXED_TYPE.names or ():
        fixed[field] = places[field]
    encoded = fixed.tobytes()
    lengths = np.fromiter(map(len, names), "<u2", len(names)).tobytes()
    parts = [b""] * (3 * len(names))
    parts[0::3] = [lengths[at : at + NAME_LENGTH.size] for at in range(0, len(lengths), NAME_LENGTH.size)]
    parts[1::3] = names
    parts[2::3] = [encoded[at : at + FIXED.size] for at in range(0, len(encoded), FIXED.size)]
    return b"".join(parts)
