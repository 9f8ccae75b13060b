"""INDEX in memory: the bytes as they are, and a sorted array of name hashes beside them."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Self

import google_crc32c
import numpy as np
import numpy.typing as npt

from des.format.errors import ChecksumMismatchError
from des.format.footer import FOOTER_SIZE, Footer
from des.format.frame import FRAME_HEADER_SIZE
from des.format.index import (
    ENTRY_SIZE_MIN,
    FIXED,
    FLAG_EXTERNAL,
    FLAGS_KNOWN,
    NAME_LENGTH,
    BadIndexError,
    IndexEntry,
)
from des.format.index_directory import Group
from des.format.layout import Layout

FIXED_TYPE: Final = np.dtype(
    [
        ("data_offset", "<u8"),
        ("data_length", "<u8"),
        ("meta_offset", "<u8"),
        ("meta_length", "<u8"),
        ("flags", "<u4"),
    ]
)
"""What stands behind a name in INDEX."""
assert FIXED_TYPE.itemsize == FIXED.size

EXTERNAL_LENGTH_MAX: Final = (1 << 63) - 1
"""Bytes of an external file that still add up without overflow."""


class ContainerIndex:
    """Finds a file of one container by name; about 12 bytes a file beyond INDEX itself.

    Names are found by Python's own hash of their bytes: keyed per process, so that nobody can choose
    names that collide, and never stored.
    """

    def __init__(
        self,
        raw: bytes,
        hashes: npt.NDArray[np.int64],
        positions: npt.NDArray[np.uint32],
        layout: Layout,
        data_start: int,
    ) -> None:
        self._raw = raw
        self._hashes = hashes
        self._positions = positions
        self.layout = layout
        """How the files stand in the container."""
        self.data_start = data_start
        """Where they start; what lies between HEADER and this are dictionaries."""

    @classmethod
    def parse(cls, index_bytes: bytes, footer: Footer) -> Self:
        """Check INDEX against the footer, whole, and make it searchable.

        Raises:
            BadIndexError: not exactly `file_count` entries; a name empty, doubled or not UTF-8; an
                unknown flag; a place outside its section; two files over the same bytes.
        """
        footer.check(footer.index_stop + FOOTER_SIZE)
        if len(index_bytes) != footer.index_length:
            raise BadIndexError(f"INDEX has {len(index_bytes)} bytes, footer says {footer.index_length}")
        positions, name_lengths = _walk(index_bytes, footer.file_count)
        names = [
            index_bytes[start : start + length]
            for start, length in zip(
                (positions + NAME_LENGTH.size).tolist(), name_lengths.tolist(), strict=True
            )
        ]
        _check_names(names)
        fixed = _gather_fixed(index_bytes, positions + NAME_LENGTH.size + name_lengths)
        _check_places(fixed, name_lengths, footer)
        hashes = np.fromiter(map(hash, names), dtype=np.int64, count=len(names))
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        _check_distinct(hashes, order, names)
        return cls(index_bytes, hashes, positions[order].astype(np.uint32), footer.layout, footer.data_start)

    def check(self, groups: Sequence[Group]) -> None:
        """Prove INDEX by what INDEXDIR says of it.

        Raises:
            ChecksumMismatchError: a group of entries is not what was written.
        """
        for group in groups:
            found = google_crc32c.value(self._raw[group.start : group.stop])
            if found != group.index_crc32c:
                raise ChecksumMismatchError(
                    f"bytes [{group.start}, {group.stop}) of INDEX have CRC32C {found:08x}, "
                    f"expected {group.index_crc32c:08x}"
                )

    @property
    def memory_bytes(self) -> int:
        """Bytes this object keeps."""
        return len(self._raw) + self._hashes.nbytes + self._positions.nbytes

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def __iter__(self) -> Iterator[IndexEntry]:
        position = 0
        while position < len(self._raw):
            entry, position = self._entry(position)
            yield entry

    def table(self) -> tuple[list[bytes], npt.NDArray[Any]]:
        """Return every name, and the numbers of every entry as an array of `FIXED_TYPE`, in order."""
        positions, name_lengths = _walk(self._raw, len(self))
        starts = positions + NAME_LENGTH.size
        places = zip(starts.tolist(), name_lengths.tolist(), strict=True)
        names = [self._raw[start : start + length] for start, length in places]
        return names, _gather_fixed(self._raw, starts + name_lengths)

    def find(self, name: str) -> IndexEntry | None:
        """Return the entry of `name`; None when the container does not have it."""
        try:
            encoded = name.encode()
        except UnicodeEncodeError:
            return None
        wanted = hash(encoded)
        place = int(self._hashes.searchsorted(wanted))
        while place < len(self._hashes) and self._hashes[place] == wanted:
            position = int(self._positions[place])
            if self._raw.startswith(NAME_LENGTH.pack(len(encoded)) + encoded, position):
                return self._entry(position)[0]
            place += 1
        return None

    def _entry(self, position: int) -> tuple[IndexEntry, int]:
        """Return the entry at `position` of INDEX and where the next one starts."""
        (name_length,) = NAME_LENGTH.unpack_from(self._raw, position)
        start = position + NAME_LENGTH.size
        stop = start + name_length
        entry = IndexEntry(self._raw[start:stop].decode(), *FIXED.unpack_from(self._raw, stop))
        return entry, stop + FIXED.size


def _walk(raw: bytes, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where each entry starts and how long its name is."""
    if not count:
        if raw:
            raise BadIndexError(f"INDEX has {len(raw)} bytes for no file")
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    (first_length,) = NAME_LENGTH.unpack_from(raw)
    stride = ENTRY_SIZE_MIN + first_length
    if count * stride == len(raw):
        heads = np.frombuffer(raw, np.uint8).reshape(count, stride)[:, : NAME_LENGTH.size]
        if (heads == heads[0]).all():
            return np.arange(count, dtype=np.int64) * stride, np.full(count, first_length, np.int64)
    return _walk_each(raw, count)


def _walk_each(raw: bytes, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    positions: list[int] = []
    lengths: list[int] = []
    position = 0
    last = len(raw) - ENTRY_SIZE_MIN
    for ordinal in range(count):
        if position > last:
            raise BadIndexError(f"INDEX ends within entry {ordinal} of {count}")
        length = raw[position] | raw[position + 1] << 8
        positions.append(position)
        lengths.append(length)
        position += ENTRY_SIZE_MIN + length
    if position != len(raw):
        raise BadIndexError(f"{count} entries of INDEX take {position} bytes, it has {len(raw)}")
    return np.array(positions, np.int64), np.array(lengths, np.int64)


def _check_names(names: list[bytes]) -> None:
    if not all(names):
        raise BadIndexError("INDEX has a file without a name")
    for name in names if not all(map(bytes.isascii, names)) else ():
        try:
            name.decode()
        except UnicodeDecodeError as error:
            raise BadIndexError(f"name {name!r} is not UTF-8") from error


def _check_distinct(hashes: npt.NDArray[np.int64], order: npt.NDArray[Any], names: list[bytes]) -> None:
    if len(hashes) < 2 or (hashes[1:] != hashes[:-1]).all():
        return
    seen: set[bytes] = set()
    for place in np.flatnonzero(np.isin(hashes, hashes[1:][hashes[1:] == hashes[:-1]])):
        name = names[int(order[place])]
        if name in seen:
            raise BadIndexError(f"INDEX names {name.decode()!r} twice")
        seen.add(name)


def _gather_fixed(raw: bytes, starts: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return the fixed part of every entry as one structured array."""
    if not len(starts):
        return np.zeros(0, FIXED_TYPE)
    rows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(raw, np.uint8), FIXED.size)[starts]
    return np.ascontiguousarray(rows).view(FIXED_TYPE).reshape(-1)


def _check_places(fixed: npt.NDArray[Any], name_lengths: npt.NDArray[np.int64], footer: Footer) -> None:
    """Demand that every file and its metadata lie where they may. No sum here can overflow."""
    external = (fixed["flags"] & FLAG_EXTERNAL) != 0
    _refuse((fixed["flags"] & np.uint32(~FLAGS_KNOWN & 0xFFFFFFFF)) != 0, "has unknown flags")
    _refuse(external & (fixed["data_offset"] != 0), "is external but has a place in DATA")
    _refuse(external & (fixed["data_length"] > EXTERNAL_LENGTH_MAX), "is too long")
    inside = fixed[~external]
    _refuse(
        ~_within(inside["data_offset"], inside["data_length"], footer.data_start, footer.data_stop),
        "lies outside DATA",
    )
    framed = footer.layout is Layout.FRAMED
    meta_bounds = (footer.data_start, footer.data_stop) if framed else (footer.meta_start, footer.meta_stop)
    _refuse(
        ~_within(fixed["meta_offset"], fixed["meta_length"], *meta_bounds), "has metadata outside its section"
    )
    _refuse(fixed["meta_length"] == 0, "has no metadata")
    if framed:
        _check_frames(fixed, external, name_lengths.astype(np.uint64), footer)
    else:
        _check_overlaps(inside["data_offset"], inside["data_length"], shared=True)


def _check_frames(
    fixed: npt.NDArray[Any],
    external: npt.NDArray[np.bool_],
    name_lengths: npt.NDArray[np.uint64],
    footer: Footer,
) -> None:
    """Demand that each file's header, bytes, name and metadata lie side by side, and alone."""
    stored = np.where(external, np.uint64(0), fixed["data_length"])
    around = stored + name_lengths + np.uint64(FRAME_HEADER_SIZE)
    _refuse(fixed["meta_offset"] < around + np.uint64(footer.data_start), "has no room for its frame")
    starts = fixed["meta_offset"] - around
    misplaced = fixed["data_offset"] != starts + np.uint64(FRAME_HEADER_SIZE)
    _refuse(~external & misplaced, "does not lie in its frame")
    _check_overlaps(starts, around + fixed["meta_length"], shared=False)


def _check_overlaps(
    offsets: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint64], *, shared: bool
) -> None:
    """Demand that runs lie apart; `shared` lets files stand over exactly the same bytes."""
    some = lengths > 0
    offsets, lengths = offsets[some], lengths[some]
    if not (offsets[1:] >= offsets[:-1]).all():
        order = np.lexsort((lengths, offsets))
        offsets, lengths = offsets[order], lengths[order]
    clash = offsets[:-1] + lengths[:-1] > offsets[1:]
    if shared:
        clash &= (offsets[1:] != offsets[:-1]) | (lengths[1:] != lengths[:-1])
    if clash.any():
        at = int(offsets[1:][clash][0])
        raise BadIndexError(f"two files lie over each other at {at}")


def _within(
    offsets: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint64], start: int, stop: int
) -> npt.NDArray[np.bool_]:
    inside = (offsets >= np.uint64(start)) & (offsets <= np.uint64(stop))
    room = np.where(inside, np.uint64(stop) - np.where(inside, offsets, np.uint64(stop)), np.uint64(0))
    return inside & (lengths <= room)


def _refuse(wrong: npt.NDArray[np.bool_], what: str) -> None:
    if wrong.any():
        raise BadIndexError(
            f"INDEX: {int(wrong.sum())} of {len(wrong)} files, the first at "
            f"{int(wrong.argmax())}: a file {what}"
        )
