"""Files that a writer took and did not write yet: taken one by one, laid out many at once.

One loop of C over a thousand files costs a third of what a thousand calls do, and the bytes of DATA go out in
one piece.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import google_crc32c
import numpy as np
import numpy.typing as npt

from des.core.sink import JOINED_MAX
from des.format.compression import CODEC_RAW
from des.format.frame import FRAME_HEADER_SIZE
from des.format.frame_batch import encode_frame_headers
from des.format.index import FLAG_EXTERNAL
from des.format.name_key import BIND_STOP, KEY_START, KEY_STOP, name_digest

WAITING_BYTES_MAX: Final = 1 << 21
"""Stored bytes that wait at most."""
WAITING_FILES_MAX: Final = 1 << 12

PLACE_TYPE: Final = np.dtype(
    [
        ("key", "V12"),
        ("start", "<u8"),
        ("data_offset", "<u8"),
        ("data_length", "<u8"),
        ("raw_length", "<u8"),
        ("meta_offset", "<u8"),
        ("meta_length", "<u8"),
        ("proof", "<u4"),
        ("flags", "u1"),
        ("slot", "u1"),
    ]
)
"""Where a file lies and what is known of it: all that INDEX and HASHPAGES say beside its name."""
Places: TypeAlias = npt.NDArray[Any]


WaitingFile: TypeAlias = tuple[bytes, bytes, bytes, int | None, int, int, int]
"""A file that the writer checked: name, stored bytes, metadata, CRC32C of its bytes, flags, codec, length.

An external file has no stored bytes. The CRC32C is None where it is still to be computed, of a raw file.
"""


@dataclass(frozen=True, slots=True)
class LaidOut:
    """What files that waited become."""

    names: Sequence[bytes]
    places: Places
    """One row for each of them."""
    parts: list[bytes]
    """Their bytes in DATA."""
    meta: bytes
    """Theirs in META; none when framed."""


def lay_out_framed(files: Sequence[WaitingFile], start: int) -> LaidOut:
    """Lay out files as frames, the first of which starts at `start`."""
    names, stored, documents, crc32c, flags, codecs, lengths = zip(*files, strict=True)
    count = len(files)
    digests = _digests(names)
    stored_lengths = np.fromiter(map(len, stored), np.int64, count)
    places = _place_framed(
        start, names, documents, digests, flags, codecs, stored_lengths=stored_lengths, lengths=lengths
    )
    raw_lengths = np.where(places["flags"] & FLAG_EXTERNAL, 0, places["raw_length"])
    headers = encode_frame_headers(
        names,
        documents,
        digests=digests,
        codecs=codecs,
        flags=flags,
        stored_lengths=stored_lengths,
        raw_lengths=raw_lengths,
        data_crc32c=_checksums(crc32c, stored),
    )
    # Between the stored bytes of two files stand the tail of one frame and the header of the next.
    split = range(0, len(headers), FRAME_HEADER_SIZE)
    heads = [headers[at : at + FRAME_HEADER_SIZE] for at in split]
    tails = map(operator.add, names, documents)
    parts = [b""] * (2 * count + 1)
    parts[0] = heads[0]
    parts[1::2] = stored
    parts[2::2] = map(operator.add, tails, [*heads[1:], b""])
    return LaidOut(names, places, _joined(parts, stored_lengths), b"")


def lay_out_v1(files: Sequence[WaitingFile], start: int, meta_length: int) -> LaidOut:
    """Lay out bare files, the first of which starts at `start`; META has `meta_length` bytes already."""
    names, stored, documents, _, flags, _, lengths = zip(*files, strict=True)
    digests = _digests(names)
    value, extend = google_crc32c.value, google_crc32c.extend
    # As `bound_seed` starts it.
    proofs = [
        extend(value(name_hash[KEY_START:BIND_STOP]), data)
        for name_hash, data in zip(_rows(digests), stored, strict=True)
    ]
    stored_lengths = np.fromiter(map(len, stored), np.int64, len(files))
    places = _place_v1(start, meta_length, documents, digests, flags, proofs, lengths=lengths)
    return LaidOut(names, places, _joined(list(stored), stored_lengths), b"".join(documents))


def lay_out_written(
    name: bytes, document: bytes, digest: bytes, size: int, start: int, meta_length: int | None, proof: int
) -> LaidOut:
    """Describe a raw file that stands in DATA already; `meta_length` is that of META, None when framed."""
    digests = np.frombuffer(digest, np.uint8).reshape(1, -1)
    if meta_length is not None:
        places = _place_v1(start, meta_length, [document], digests, [0], [proof], lengths=[size])
        return LaidOut([name], places, [], document)
    places = _place_framed(
        start, [name], [document], digests, [0], [CODEC_RAW], stored_lengths=np.array([size]), lengths=[size]
    )
    return LaidOut([name], places, [], b"")


def _place_framed(
    start: int,
    names: Sequence[bytes],
    documents: Sequence[bytes],
    digests: npt.NDArray[np.uint8],
    flags: Sequence[int],
    codecs: Sequence[int],
    *,
    stored_lengths: npt.NDArray[np.int64],
    lengths: Sequence[int],
) -> Places:
    """Return the places of frames that follow each other from `start`."""
    places = _new_places(digests, flags, lengths)
    external = (places["flags"] & FLAG_EXTERNAL) != 0
    name_lengths = np.fromiter(map(len, names), np.int64, len(names))
    meta_lengths = np.fromiter(map(len, documents), np.int64, len(names))
    sizes = stored_lengths + name_lengths + meta_lengths + FRAME_HEADER_SIZE
    stops = np.cumsum(sizes) + start
    places["start"] = stops - sizes
    places["data_offset"] = np.where(external, 0, stops - sizes + FRAME_HEADER_SIZE)
    places["data_length"] = np.where(external, places["raw_length"], stored_lengths.astype(np.uint64))
    places["meta_offset"] = stops - meta_lengths
    places["meta_length"] = meta_lengths
    places["proof"] = meta_lengths
    places["slot"] = codecs
    return places


def _place_v1(
    start: int,
    meta_length: int,
    documents: Sequence[bytes],
    digests: npt.NDArray[np.uint8],
    flags: Sequence[int],
    proofs: Sequence[int],
    *,
    lengths: Sequence[int],
) -> Places:
    """Return the places of bare files that follow each other from `start`; metadata is placed in META."""
    places = _new_places(digests, flags, lengths)
    external = (places["flags"] & FLAG_EXTERNAL) != 0
    stored_lengths = np.where(external, np.uint64(0), places["raw_length"])
    starts = np.cumsum(stored_lengths) - stored_lengths + np.uint64(start)
    meta_lengths = np.fromiter(map(len, documents), np.int64, len(documents))
    places["start"] = places["data_offset"] = np.where(external, np.uint64(0), starts)
    places["data_length"] = places["raw_length"]
    places["meta_offset"] = np.cumsum(meta_lengths) - meta_lengths + meta_length
    places["meta_length"] = meta_lengths
    places["proof"] = proofs
    return places


def _new_places(digests: npt.NDArray[np.uint8], flags: Sequence[int], lengths: Sequence[int]) -> Places:
    places = np.zeros(len(flags), PLACE_TYPE)
    key = np.ascontiguousarray(digests[:, KEY_START:KEY_STOP])
    places["key"] = key.view(PLACE_TYPE["key"]).reshape(len(flags))
    places["flags"] = flags
    places["raw_length"] = lengths
    return places


def _checksums(known: Sequence[int | None], stored: Sequence[bytes]) -> list[int]:
    """Return the CRC32C of each file's bytes; those not known yet are of raw files."""
    if known.count(None) == len(known):
        return list(map(google_crc32c.value, stored))
    return [
        google_crc32c.value(data) if crc32c is None else crc32c
        for crc32c, data in zip(known, stored, strict=True)
    ]


def _digests(names: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    """Return SHA-256 of each name, a row of 32 bytes each."""
    joined = b"".join(map(name_digest, names))
    return np.frombuffer(joined, np.uint8).reshape(len(names), 32)


def _rows(digests: npt.NDArray[np.uint8]) -> list[bytes]:
    joined = digests.tobytes()
    return [joined[start : start + 32] for start in range(0, len(joined), 32)]


def _joined(parts: list[bytes], stored_lengths: npt.NDArray[np.int64]) -> list[bytes]:
    """Return the same bytes, in one piece where no file is so long that copying it costs more."""
    return [b"".join(parts)] if int(stored_lengths.max()) < JOINED_MAX else parts
