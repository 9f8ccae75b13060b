"""What of SHA-256(name) stands for a name in a container (docs/format.md, section 14).

The first eight bytes choose the shard and are alike within a container, so none of them is used.
"""

import hashlib
from struct import Struct
from typing import Final

import google_crc32c

KEY_START: Final = 8
KEY_SIZE: Final = 12
KEY_STOP: Final = KEY_START + KEY_SIZE
BIND_STOP: Final = 24
"""Bytes 8 to 23 of the digest start the checksum of a v1 file, which binds its bytes to its name."""

_U64: Final = Struct(">Q")


def name_digest(name: bytes) -> bytes:
    """Return SHA-256(name), 32 bytes."""
    return hashlib.sha256(name).digest()


def key_of(digest: bytes) -> bytes:
    """Return the 12 bytes that stand for a name in HASHPAGES."""
    return digest[KEY_START:KEY_STOP]


def hash_of(digest: bytes) -> int:
    """Return the first 8 bytes of the key as a number: what pages and filter are addressed by."""
    value: int = _U64.unpack_from(digest, KEY_START)[0]
    return value


def bound_seed(digest: bytes) -> int:
    """Return the CRC32C that a file's bytes are added to, so that it proves their name too."""
    seed: int = google_crc32c.value(digest[KEY_START:BIND_STOP])
    return seed
