"""FILTER: says of most absent names that they are absent, in 9 bits a file (docs/format.md, section 17).

A binary fuse filter with 8-bit fingerprints, made from its description: Graf and Lemire, "Binary Fuse
Filters: Fast and Smaller Than Xor Filters", ACM JEA 27 (2022). A name that is there is never denied; of
those that are not, 1 in 256 is let through.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from des.format.page_plan import scale
from des.format.section_table import BadSectionError

HEADER_SIZE: Final = 16
SEGMENT_LENGTH_MAX: Final = 1 << 18
SEEDS_MAX: Final = 100
"""Seeds tried before a writer gives up; each works with a probability above one half."""
_MASK: Final = (1 << 64) - 1
_MIX_A: Final = 0xFF51AFD7ED558CCD
_MIX_B: Final = 0xC4CEB9FE1A85EC53
_COUNT_SHIFT: Final = 48
"""Bits for the sum of a place's keys: 2**32 files would have to share 2**16 places of it."""
_ONE_KEY: Final = 1 << _COUNT_SHIFT
_KEY_SUM_MASK: Final = _ONE_KEY - 1
_SEED_STEP: Final = 0x9E3779B97F4A7C15

# seed u64 | segment_length u32 | segment_count u32
_HEADER: Final = Struct("<QII")
assert _HEADER.size == HEADER_SIZE

Hashes: TypeAlias = npt.NDArray[np.uint64]
Places: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FuseFilter:
    """Answers whether a name may be in the container, from the hash of its key."""

    seed: int
    segment_length: int
    """A power of two."""
    segment_count: int
    """Segments in which a key's first place may lie; there are two more."""
    fingerprints: bytes

    def __contains__(self, hash_: int) -> bool:
        mixed = _mix(hash_ + self.seed & _MASK)
        first = mixed * self.segment_count * self.segment_length >> 64
        mask = self.segment_length - 1
        second = first + self.segment_length ^ mixed >> 18 & mask
        third = first + 2 * self.segment_length ^ mixed & mask
        found = self.fingerprints[first] ^ self.fingerprints[second] ^ self.fingerprints[third]
        return found == (mixed ^ mixed >> 32) & 0xFF

    def encode(self) -> bytes:
        """Return the section's bytes."""
        return _HEADER.pack(self.seed, self.segment_length, self.segment_count) + self.fingerprints

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a section's bytes, which its checksum has proven.

        Raises:
            BadSectionError: it is no filter.
        """
        if len(data) < HEADER_SIZE:
            raise BadSectionError(f"FILTER has {len(data)} bytes, expected {HEADER_SIZE} at least")
        seed, length, count = _HEADER.unpack_from(data)
        if (
            length.bit_count() != 1
            or length > SEGMENT_LENGTH_MAX
            or not count
            or len(data) - HEADER_SIZE != (count + 2) * length
        ):
            raise BadSectionError(f"FILTER has {len(data)} bytes for {count} segments of {length}")
        return cls(seed, length, count, data[HEADER_SIZE:])


def build_filter(hashes: Hashes) -> FuseFilter | None:
    """Make the filter of distinct hashes; the same ones give the same filter.

    Returns None when no seed works, which chance alone does not bring about.
    """
    length, count = _geometry(len(hashes))
    for attempt in range(SEEDS_MAX):
        seed = _mix((attempt + 1) * _SEED_STEP & _MASK)
        fingerprints = _solve(hashes, seed, length, count)
        if fingerprints is not None:
            return FuseFilter(seed, length, count, fingerprints.tobytes())
    return None


def _geometry(size: int) -> tuple[int, int]:
    """Return length and count of segments that hold `size` keys, after the paper, section 3."""
    if size < 2:
        return 4, 1
    length = min(1 << math.floor(math.log(size) / math.log(3.33) + 2.25), SEGMENT_LENGTH_MAX)
    factor = max(1.125, 0.875 + 0.25 * math.log(1_000_000) / math.log(size))
    return length, max(1, -(-round(size * factor) // length) - 2)


def _solve(hashes: Hashes, seed: int, length: int, count: int) -> npt.NDArray[np.uint8] | None:
    """Return fingerprints of which the three of each key xor to its own; None when the seed does not work."""
    mixed = _mix_all(hashes + np.uint64(seed))
    mask = np.uint64(length - 1)
    step = np.uint64(length)
    first = scale(mixed, count * length)
    places = np.stack(
        [
            first,
            (first + step) ^ (mixed >> np.uint64(18) & mask),
            (first + np.uint64(2) * step) ^ (mixed & mask),
        ]
    ).astype(np.int64)
    own = (mixed ^ mixed >> np.uint64(32)).astype(np.uint8)
    del mixed, first
    table = np.zeros((count + 2) * length, np.uint8)
    peeled = 0
    rounds: list[tuple[Places, Places]] = []
    for keys, at in _peel(places, len(table)):
        rounds.append((keys, at))
        peeled += len(keys)
    if peeled < len(hashes):
        return None
    for keys, at in reversed(rounds):
        # The place of a key is still 0, so xor over all three is xor over the other two.
        table[at] = own[keys] ^ table[places[0, keys]] ^ table[places[1, keys]] ^ table[places[2, keys]]
    return table


def _peel(places: Places, size: int) -> Iterator[tuple[Places, Places]]:
    """Yield, round by round, keys that are alone at a place, and that place; each key once."""
    keys = np.arange(places.shape[1], dtype=np.int64)
    # Of each place the sum of its keys and, above it, how many they are: taken away in one step.
    state = np.zeros(size, np.int64)
    for row in places:
        # Exact: a sum of ordinals stays far below 2**53.
        state += np.bincount(row, weights=keys, minlength=size).astype(np.int64)
        state += np.bincount(row, minlength=size) << _COUNT_SHIFT
    owner = np.zeros(places.shape[1], np.int64)
    alone = np.flatnonzero(state >> _COUNT_SHIFT == 1)
    while len(alone):
        found = state[alone] & _KEY_SUM_MASK
        turn = np.arange(len(alone))
        owner[found] = turn
        once = owner[found] == turn
        found, alone = found[once], alone[once]
        yield found, alone
        touched = places[:, found].reshape(-1)
        np.subtract.at(state, touched, np.tile(found + _ONE_KEY, 3))
        alone = touched[state[touched] >> _COUNT_SHIFT == 1]


def _mix(value: int) -> int:
    """Return the 64-bit finalizer of MurmurHash3."""
    value = (value ^ value >> 33) * _MIX_A & _MASK
    value = (value ^ value >> 33) * _MIX_B & _MASK
    return value ^ value >> 33


def _mix_all(values: Hashes) -> Hashes:
    shift = np.uint64(33)
    values = (values ^ values >> shift) * np.uint64(_MIX_A)
    values = (values ^ values >> shift) * np.uint64(_MIX_B)
    return values ^ values >> shift
