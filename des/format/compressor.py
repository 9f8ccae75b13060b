"""Decides how each file of one container is stored, and trains the dictionaries for it.

The same files in the same order give the same dictionaries and the same bytes: samples are chosen by
place, the level is fixed, and zstd works in one thread.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from zstandard import ZstdCompressor, ZstdError, train_dictionary

from des.files import BLOCK_SIZE
from des.format.compression import (
    CODEC_DICTIONARY_MIN,
    CODEC_RAW,
    CODEC_ZSTD,
    COMPRESSED_RAW_LENGTH_MAX,
    LEVEL,
    SHORT_LENGTH,
    SHORT_LEVEL,
    BadCompressionError,
    Dictionary,
    plain_compressor,
)
from des.format.dictionaries import DICTIONARY_COUNT_MAX, encode_dictionaries

GAIN_MIN: Final = 0.05
"""Least part of a file that compression must save: less does not pay for decompressing every read."""
LONG_GAIN_MIN: Final = 0.5
"""The same for a file longer than a checksum block: raw, a range of it would be read alone."""
SHORT_MAX: Final = 48
"""Bytes of a file not worth trying: it saves less than its index entry costs."""

DICTIONARY_LENGTH_WRITTEN_MAX: Final = 112 << 10
"""Bytes of a trained dictionary; more gained nothing on JSON and sources."""
DICTIONARY_LENGTH_MIN: Final = 1 << 10
DICTIONARY_SHARE: Final = 64
"""A dictionary is at most one in so many of the bytes it is for: half of that for twice the share costs
small containers 1 % and gives large ones nothing."""
SAMPLE_COUNT_MIN: Final = 32
"""Files of a content type below which it shares the dictionary for the rest."""
SAMPLE_LENGTH_MAX: Final = 1 << 16
"""Bytes of one sample: a dictionary helps at the start of a file."""
SAMPLED_FILE_LENGTH_MAX: Final = 1 << 18
"""Longer files are no samples: they are their own dictionary."""
SAMPLE_BYTES_MAX: Final = 4 << 20
"""Bytes of samples for one dictionary."""
SAMPLE_BYTES_TOTAL_MAX: Final = 16 << 20
"""Bytes of samples for one container: they are in memory together."""
_TRAINING: Final = {"k": 256, "d": 8, "f": 18, "accel": 4}
"""Segment length, what a segment is judged by, and how closely. Without them zstd tries many, which takes
six times as long: most of the time of a seal, for dictionaries that are not better (docs/adr/0005)."""
JUDGE_EVERY: Final = 4
"""One sample in so many judges the dictionary and does not train it."""

_PACKED_TYPES: Final = frozenset(
    {
        "application/gzip",
        "application/java-archive",
        "application/vnd.rar",
        "application/x-7z-compressed",
        "application/x-brotli",
        "application/x-bzip2",
        "application/x-gzip",
        "application/x-rar-compressed",
        "application/x-xz",
        "application/x-zip-compressed",
        "application/zip",
        "application/zstd",
        "font/woff",
        "font/woff2",
        "image/avif",
        "image/gif",
        "image/heic",
        "image/heif",
        "image/jp2",
        "image/jpeg",
        "image/jxl",
        "image/png",
        "image/webp",
    }
)
"""Content types whose files are compressed already, besides audio and video."""
_LOOSE_TYPES: Final = frozenset({"audio/midi", "audio/wav", "audio/x-wav", "audio/vnd.wave"})

_REST: Final = ""
"""Stands for all content types that have no dictionary of their own."""


def family(content_type: str) -> str:
    """Return the content type without parameters, in lower case.

    >>> family("Text/HTML; charset=utf-8")
    'text/html'
    """
    return content_type.partition(";")[0].strip().lower()


def is_packed(kind: str) -> bool:
    """Whether files of a type (as `family` gives it) are compressed already.

    >>> is_packed("image/png"), is_packed("image/svg+xml"), is_packed("video/mp4")
    (True, False, True)
    """
    return kind in _PACKED_TYPES or (kind.startswith(("audio/", "video/")) and kind not in _LOOSE_TYPES)


@dataclass(frozen=True, slots=True)
class Samples:
    """Which files train the dictionaries of a container."""

    groups: tuple[tuple[str, tuple[int, ...], int], ...]
    """(content type, or "" for the rest; places of its samples; bytes of all its files), largest first."""

    @property
    def places(self) -> list[int]:
        """Places of all samples among the files, ascending."""
        return sorted(place for _, places, _ in self.groups for place in places)

    @classmethod
    def choose(cls, files: Iterable[tuple[str, int]]) -> Self:
        """Choose among `files`, in their order: (content type, length) each; -1 for one that lies outside."""
        members: dict[str, list[tuple[int, int]]] = {}
        for place, (content_type, length) in enumerate(files):
            kind = family(content_type)
            if SHORT_MAX < length <= SAMPLED_FILE_LENGTH_MAX and not is_packed(kind):
                members.setdefault(kind, []).append((place, length))
        known = {kind: found for kind, found in members.items() if kind != _REST and _is_enough(found)}
        largest = sorted(known, key=lambda kind: (-_total(known[kind]), kind))[: DICTIONARY_COUNT_MAX - 1]
        groups = [(kind, known[kind]) for kind in largest]
        rest = sorted(one for kind, found in members.items() if kind not in largest for one in found)
        if _is_enough(rest):
            groups.append((_REST, rest))
        budget = min(SAMPLE_BYTES_MAX, SAMPLE_BYTES_TOTAL_MAX // max(len(groups), 1))
        return cls(tuple((kind, _spread(found, budget), _total(found)) for kind, found in groups))


@dataclass(frozen=True, slots=True)
class _Codec:
    """One codec, ready to compress."""

    number: int
    long: ZstdCompressor
    short: ZstdCompressor


class Compressor:
    """Compresses the files of one container, one after the other. For one thread."""

    def __init__(self, dictionaries: Mapping[str, bytes] | None = None) -> None:
        """Take the dictionaries, by content type (as `family` gives it), "" for all other types.

        Raises:
            BadCompressionError: one of them is no zstd dictionary.
        """
        dictionaries = dictionaries or {}
        self.section: Final = encode_dictionaries(list(dictionaries.values()))
        """ZDICT, as it stands in the container; empty without dictionaries."""
        self._plain = _Codec(CODEC_ZSTD, plain_compressor(), plain_compressor(SHORT_LEVEL))
        self._by_kind: dict[str, _Codec] = {}
        for slot, (kind, data) in enumerate(dictionaries.items(), CODEC_DICTIONARY_MIN):
            made = Dictionary(data)
            self._by_kind[kind] = _Codec(slot, made.compressor(), made.compressor(SHORT_LEVEL))

    @classmethod
    def train(cls, samples: Samples, files: Mapping[int, bytes]) -> Self:
        """Train dictionaries from the chosen files, by place; those that do not pay are left out."""
        trained: dict[str, bytes] = {}
        for kind, places, total in samples.groups:
            dictionary = _train([files[place][:SAMPLE_LENGTH_MAX] for place in places], total)
            if dictionary is not None:
                trained[kind] = dictionary
        return cls(trained)

    def compress(self, data: bytes, content_type: str = "") -> tuple[int, bytes]:
        """Return codec and stored bytes of a file: its own bytes where compression gains too little."""
        kind = family(content_type)
        if not SHORT_MAX < len(data) <= COMPRESSED_RAW_LENGTH_MAX or is_packed(kind):
            return CODEC_RAW, data
        codec = self._by_kind.get(kind) or self._by_kind.get(_REST) or self._plain
        stored = (codec.short if len(data) <= SHORT_LENGTH else codec.long).compress(data)
        gain = GAIN_MIN if len(data) <= BLOCK_SIZE else LONG_GAIN_MIN
        if len(stored) > len(data) * (1 - gain):
            return CODEC_RAW, data
        return codec.number, stored


def _train(samples: Sequence[bytes], total: int) -> bytes | None:
    """Return a dictionary for `total` bytes like `samples`; None where it would not pay for itself."""
    length = min(DICTIONARY_LENGTH_WRITTEN_MAX, total // DICTIONARY_SHARE)
    judges = samples[::JUDGE_EVERY]
    students: list[bytes | bytearray | memoryview] = [
        sample for place, sample in enumerate(samples) if place % JUDGE_EVERY
    ]
    if length < DICTIONARY_LENGTH_MIN:
        return None
    try:
        # Without an id given, zstd derives one; frames do not carry it.
        trained: bytes = train_dictionary(
            length, students, level=LEVEL, dict_id=1 << 15, **_TRAINING
        ).as_bytes()
        with_it, without = Dictionary(trained).compressor(), plain_compressor()
        saved = sum(len(without.compress(one)) - len(with_it.compress(one)) for one in judges)
    except (ZstdError, BadCompressionError):
        return None  # the samples have nothing in common, or too little in them
    return trained if saved * total > len(trained) * sum(map(len, judges)) else None


def _is_enough(found: Sequence[tuple[int, int]]) -> bool:
    return len(found) >= SAMPLE_COUNT_MIN and _total(found) >= DICTIONARY_LENGTH_MIN * DICTIONARY_SHARE


def _total(found: Iterable[tuple[int, int]]) -> int:
    return sum(length for _, length in found)


def _spread(found: Sequence[tuple[int, int]], budget: int) -> tuple[int, ...]:
    """Return places of files spread evenly over all bytes, about `budget` bytes of samples together."""
    everything = sum(min(length, SAMPLE_LENGTH_MAX) for _, length in found)
    chosen: list[int] = []
    passed = taken = 0
    for place, length in found:
        # Take a file whenever the share taken lags behind the share passed.
        if taken * everything <= passed * budget and taken < budget:
            chosen.append(place)
            taken += min(length, SAMPLE_LENGTH_MAX)
        passed += min(length, SAMPLE_LENGTH_MAX)
    return tuple(chosen)
