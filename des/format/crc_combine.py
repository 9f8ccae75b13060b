"""CRC32C of two runs of bytes from those of each (docs/format.md, section 14), without the bytes."""

from functools import reduce
from typing import Final

_POLYNOMIAL: Final = 0x82F63B78
"""Castagnoli's, reflected: the highest power of x is bit 0."""
_ONE: Final = 1 << 31
"""x**0, reflected."""


def combine(first: int, second: int, second_length: int) -> int:
    """Return the CRC32C of some bytes and `second_length` more, from the CRC32C of each.

    Appending n bytes multiplies the first remainder by x**(8n), modulo the polynomial; initial and final
    complement cancel out. Takes about 20 us.

    >>> import google_crc32c
    >>> first, second = google_crc32c.value(b"small "), google_crc32c.value(b"files")
    >>> combine(first, second, 5) == google_crc32c.value(b"small files")
    True
    """
    powers = (_POWERS[bit] for bit in range(second_length.bit_length()) if second_length >> bit & 1)
    return reduce(_multiply, powers, first) ^ second


def _multiply(a: int, b: int) -> int:
    """Return the product of two reflected polynomials, modulo the polynomial."""
    product = 0
    while b:
        if b & _ONE:
            product ^= a
        b = b << 1 & 0xFFFFFFFF
        a = a >> 1 ^ (_POLYNOMIAL if a & 1 else 0)
    return product


def _powers(count: int) -> tuple[int, ...]:
    """Return x**(8 * 2**n) for n below `count`."""
    found = [_ONE >> 8]
    while len(found) < count:
        found.append(_multiply(found[-1], found[-1]))
    return tuple(found)


_POWERS: Final = _powers(64)
"""Lengths of up to 64 bits."""
