"""INDEX, META and what EXT will say, gathered while a container's files are written."""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final
from uuid import UUID

from des.core.ext_builder import ExtBuilder
from des.format.compression import CODEC_RAW
from des.format.errors import InvalidEntryError
from des.format.footer import INDEX_LENGTH_MAX, Footer
from des.format.frame import FRAME_HEADER_SIZE
from des.format.index import FIXED, FLAG_EXTERNAL, NAME_LENGTH, IndexEntry

_U64: Final = Struct("<Q")
_META_OFFSET_PLACE: Final = 16
"""Where meta_offset stands in the fixed part of an INDEX entry."""


class Contents:
    """Notes each file that stands in DATA; knows every name."""

    def __init__(self, *, framed: bool, ext: bool) -> None:
        self.names: Final[set[str]] = set()
        self._framed = framed
        self._index = bytearray()
        self._meta = bytearray()
        """META of a v1 container, which stands behind all of DATA."""
        self._meta_offset_places: list[int] = []
        """Where INDEX waits for META's start to be known; v1 only."""
        self._builder = ExtBuilder() if ext else None

    @property
    def meta_length(self) -> int:
        """Bytes of META so far."""
        return len(self._meta)

    def check_room(self, name_length: int) -> None:
        """Demand that INDEX has room for one more name.

        Raises:
            InvalidEntryError: it has not.
        """
        if len(self._index) + NAME_LENGTH.size + name_length + FIXED.size > INDEX_LENGTH_MAX:
            raise InvalidEntryError(f"INDEX would be longer than {INDEX_LENGTH_MAX} bytes")

    def add(
        self,
        encoded: bytes,
        digest: bytes,
        entry: IndexEntry,
        document: bytes = b"",
        proof: int = 0,
        *,
        codec: int = CODEC_RAW,
        raw_length: int | None = None,
    ) -> IndexEntry:
        """Note a file; `document` goes to META, and `proof` to EXT, where it is v1. Return its entry."""
        name, data_offset, data_length, meta_offset, meta_length, flags = entry
        index = self._index
        if self._builder is not None:
            if not self._framed:
                start = data_offset
            elif flags & FLAG_EXTERNAL:
                start, proof = meta_offset - len(encoded) - FRAME_HEADER_SIZE, meta_length
            else:
                start, proof = data_offset - FRAME_HEADER_SIZE, meta_length
            self._builder.add(
                digest, start, data_length, flags, proof, len(index), len(self._meta), codec, raw_length
            )
        index += NAME_LENGTH.pack(len(encoded)) + encoded
        if not self._framed:
            self._meta += document
            self._meta_offset_places.append(len(index) + _META_OFFSET_PLACE)
        index += FIXED.pack(data_offset, data_length, meta_offset, meta_length, flags)
        self.names.add(name)
        return entry

    def seal(self, *, data_start: int, meta_start: int) -> tuple[Footer, bytes, bytes]:
        """Return FOOTER, META and INDEX of a container whose DATA is complete."""
        for place in self._meta_offset_places:
            _U64.pack_into(self._index, place, meta_start + _U64.unpack_from(self._index, place)[0])
        footer = Footer(
            data_start=data_start,
            data_length=meta_start - data_start,
            meta_start=meta_start,
            meta_length=len(self._meta),
            index_start=meta_start + len(self._meta),
            index_length=len(self._index),
            file_count=len(self.names),
        )
        return footer, bytes(self._meta), bytes(self._index)

    def ext(
        self,
        footer: Footer,
        meta: bytes,
        index: bytes,
        checksums: Callable[[], tuple[tuple[int, ...], bytes | None]],
        container_id: UUID | None,
    ) -> Iterator[bytes] | None:
        """Return EXT in parts; None where the container is to have none. `checksums` are those before it."""
        if self._builder is None:
            return None
        return self._builder.finish(
            footer,
            sorted(self.names),
            index=index,
            meta=meta,
            checksums=checksums(),
            container_id=container_id,
        )
