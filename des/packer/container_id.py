"""Identifiers of containers: UUIDv7 (RFC 9562 §5.7), so that ids sort by the time they were made."""

from collections.abc import Callable
from uuid import UUID


def make_container_id(now_ms: int, random_bytes: Callable[[int], bytes]) -> str:
    """Return a UUIDv7 of `now_ms` (UTC milliseconds since 1970) and 74 random bits, in text form.

    >>> make_container_id(1_700_000_000_000, bytes)
    '018bcfe5-6800-7000-8000-000000000000'
    """
    random = int.from_bytes(random_bytes(10), "big")
    value = (now_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    value |= 0b10 << 62 | random & (1 << 62) - 1
    return str(UUID(int=value))
