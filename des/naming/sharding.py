"""The shard of a name: the top bits of its SHA-256."""

from hashlib import sha256
from typing import Final

from des.errors import InvalidInputError
from des.naming.name import InvalidNameError

SHARD_BITS_MAX: Final = 64
"""Bits of the hash that can choose a shard."""

_from_bytes = int.from_bytes


def consistent_hash(name: str, shard_bits: int) -> int:
    """Return the shard of `name` among `2**shard_bits`: the top bits of SHA-256 over its UTF-8.

    Neighbouring shards merge by dropping low bits: `consistent_hash(n, b) == consistent_hash(n, b + 1) >> 1`.

    >>> consistent_hash("DES_20260228_(000000000000_00)", 8)
    198

    Raises:
        InvalidInputError: `shard_bits` is not 0 to 64.
        InvalidNameError: `name` is not valid Unicode.
    """
    if not 0 <= shard_bits <= SHARD_BITS_MAX:
        raise InvalidInputError(f"shard bits are {shard_bits!r}, expected 0 to {SHARD_BITS_MAX}")
    try:
        digest = sha256(name.encode(), usedforsecurity=False).digest()
    except UnicodeEncodeError:
        raise InvalidNameError(f"name {name[:64]!r} is not valid Unicode") from None
    return _from_bytes(digest[:8], "big") >> (SHARD_BITS_MAX - shard_bits)
