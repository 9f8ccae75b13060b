"""How values look to people, and how a path becomes one line of text and comes back.

A path on Linux is any bytes but NUL and "/" in a name: it may hold newlines, tabs, terminal escapes, bytes
that are no UTF-8. `escape` makes one printable line of it; `unescape` is its inverse.
"""

import os
import re
from datetime import UTC, datetime
from typing import Final

_ESCAPE: Final = re.compile(r"\\(?:([\\nrt])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
_LETTER: Final = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
_NAMED: Final = {value: "\\" + key for key, value in _LETTER.items()}
_SURROGATES: Final = range(0xDC80, 0xDD00)
"""Stand for undecodable bytes 80 to FF in `os.fsdecode` (PEP 383)."""

KIB: Final = 1024
MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86400


def escape(path: str) -> str:
    r"""Make one printable line of a path.

    >>> escape("a\nb\\c" + os.fsdecode(b"\xff"))
    'a\\nb\\\\c\\xff'
    """
    if path.isprintable() and "\\" not in path:
        return path
    return "".join(_escape_one(char) for char in path)


def _escape_one(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    if char.isprintable():
        return char
    point = ord(char)
    if point in _SURROGATES:
        return f"\\x{point - 0xDC00:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def unescape(line: str) -> str:
    r"""Return the path that `escape` made `line` from.

    Raises:
        ValueError: `line` holds a backslash that starts no escape.

    >>> unescape(r"a\nb\\c\xff") == "a\nb\\c" + os.fsdecode(b"\xff")
    True
    """
    if "\\" not in line:
        return line
    if "\\" in _ESCAPE.sub("", line):
        raise ValueError(f"{line!r} holds a backslash that starts no escape")
    return _ESCAPE.sub(_unescape_one, line)


def _unescape_one(found: re.Match[str]) -> str:
    letter, byte, short, long = found.groups()
    if letter:
        return _LETTER[letter]
    if byte:
        return os.fsdecode(bytes([int(byte, 16)]))
    point = int(short or long, 16)
    if point > 0x10FFFF:
        raise ValueError(f"\\U{long} is beyond Unicode")
    return chr(point)


def size(count: float) -> str:
    """Write a number of bytes.

    >>> size(0), size(1023), size(1536), size(5 << 30)
    ('0 B', '1023 B', '1.5 KiB', '5.0 GiB')
    """
    if count < KIB:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= KIB
        if count < KIB:
            return f"{count:.1f} {unit}" if count < 100 else f"{count:.0f} {unit}"
    return f"{count / KIB:,.1f} PiB"


def age(seconds: float) -> str:
    """Write a length of time, two units at most.

    >>> age(0.2), age(75), age(7260), age(200000)
    ('0s', '1m 15s', '2h 1m', '2d 7h')
    """
    whole = int(seconds)
    if whole < MINUTE_S:
        return f"{whole}s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S}m {whole % MINUTE_S}s"
    if whole < DAY_S:
        return f"{whole // HOUR_S}h {whole % HOUR_S // MINUTE_S}m"
    return f"{whole // DAY_S}d {whole % DAY_S // HOUR_S}h"


def files(count: int) -> str:
    """Write a number of files.

    >>> files(1), files(12000)
    ('1 file', '12,000 files')
    """
    return "1 file" if count == 1 else f"{count:,} files"


def checksum(crc32c: int | None) -> str | None:
    """Write a CRC32C in hex; None while unknown.

    >>> checksum(0xE3069283)
    'e3069283'
    """
    return None if crc32c is None else f"{crc32c:08x}"


def iso(time: datetime | None) -> str | None:
    """Write a point in time in UTC, to the millisecond; None while unknown.

    >>> iso(datetime(2026, 1, 15, tzinfo=UTC))
    '2026-01-15T00:00:00.000Z'
    """
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
