"""The text of a name: `PREFIX_YYYYMMDD_(F_CC)`.

F is 48 bits in upper-case hex: the low `wrap_bits` bits of the creation time (UTC milliseconds since
1970) in 32, the node id in 8, a sequence number in 8. CC is the sum of F's six bytes modulo 256.
"""

import re
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

from des.errors import InvalidInputError

DAY_MS: Final = 86_400_000
COUNTER_BITS: Final = 32
"""Bits of F that hold the time."""
WRAP_BITS_MIN: Final = 27
"""Fewest bits that tell the milliseconds of one day apart."""
NODE_ID_MAX: Final = 255
SEQ_COUNT: Final = 256
"""Names of one node in one millisecond."""
PREFIX_MAX: Final = 32
NAME_MAX: Final = PREFIX_MAX + len("_YYYYMMDD_(FFFFFFFFFFFF_CC)")

assert 1 << (WRAP_BITS_MIN - 1) < DAY_MS <= 1 << WRAP_BITS_MIN

_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_PREFIX: Final = re.compile(r"[A-Za-z0-9]{1,32}")
_NAME: Final = re.compile(
    r"([A-Za-z0-9]{1,32})_([0-9]{8})_\(([0-9A-F]{8})([0-9A-F]{2})([0-9A-F]{2})_([0-9A-F]{2})\)"
)
_DAYS_CACHED: Final = 4096
_match_name = _NAME.fullmatch
_bytes_of_hex = bytes.fromhex


class InvalidNameError(InvalidInputError):
    """A name, or a part of one, that breaks the rules of this module."""

    reason = "INVALID_NAME"


class ParsedName(NamedTuple):
    """The parts of a name; a tuple, since one is made for every file read."""

    prefix: str
    day: str
    """YYYYMMDD, a real date."""
    node_id: int
    seq: int
    counter_ms: int
    """The low `wrap_bits` bits of the creation time in milliseconds."""
    checksum: int


@lru_cache(maxsize=_DAYS_CACHED)
def day_start_ms(day: str) -> int:
    """Return the first millisecond of `day` (YYYYMMDD), UTC since 1970.

    Raises:
        InvalidNameError: `day` is no date of the calendar.
    """
    try:
        if len(day) != len("YYYYMMDD") or not (day.isascii() and day.isdigit()):
            raise ValueError
        ordinal = date(int(day[:4]), int(day[4:6]), int(day[6:])).toordinal()
    except ValueError:
        raise InvalidNameError(f"day is {day[:16]!r}, expected a calendar date as YYYYMMDD") from None
    return (ordinal - _EPOCH_ORDINAL) * DAY_MS


def day_of(epoch_ms: int) -> str:
    """Return the UTC day (YYYYMMDD) of a moment in milliseconds since 1970.

    >>> day_of(1_772_236_800_000)
    '20260228'
    """
    return date.fromordinal(_EPOCH_ORDINAL + epoch_ms // DAY_MS).strftime("%Y%m%d").zfill(8)


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that no name may have.

    Raises:
        InvalidNameError: it is not 1 to 32 ASCII letters and digits.
    """
    if not _PREFIX.fullmatch(prefix):
        raise InvalidNameError(
            f"prefix is {prefix[: PREFIX_MAX + 1]!r}, expected 1 to {PREFIX_MAX} of A-Z, a-z, 0-9"
        )


def encode_name(prefix: str, day: str, epoch_ms: int, node_id: int, seq: int, wrap_bits: int) -> str:
    """Return the name with these parts; `day` is not compared with `epoch_ms`.

    >>> encode_name("DES", "20260228", 4_294_967_301, 1, 0, 32)
    'DES_20260228_(000000050100_06)'

    Raises:
        InvalidInputError: a number is outside its range.
        InvalidNameError: `prefix` or `day` breaks the rules.
    """
    check_prefix(prefix)
    day_start_ms(day)
    if not 1 <= wrap_bits <= COUNTER_BITS:
        raise InvalidInputError(f"wrap bits are {wrap_bits!r}, expected 1 to {COUNTER_BITS}")
    if epoch_ms < 0:
        raise InvalidInputError(f"time is {epoch_ms!r} ms since 1970, expected 0 or more")
    if not 0 <= node_id <= NODE_ID_MAX:
        raise InvalidInputError(f"node id is {node_id!r}, expected 0 to {NODE_ID_MAX}")
    if not 0 <= seq < SEQ_COUNT:
        raise InvalidInputError(f"sequence number is {seq!r}, expected 0 to {SEQ_COUNT - 1}")
    field = (epoch_ms & ((1 << wrap_bits) - 1)) << 16 | node_id << 8 | seq
    return f"{prefix}_{day}_({field:012X}_{sum(field.to_bytes(6, 'big')) & 0xFF:02X})"


def parse_name(name: str) -> ParsedName:
    """Return the parts of `name`, every one of them checked.

    Raises:
        InvalidNameError: the form, the date or the checksum is wrong.
    """
    found = _match_name(name)
    if found is None:
        raise InvalidNameError(
            f"name is {name[: NAME_MAX + 1]!r}, expected PREFIX_YYYYMMDD_(12 upper-case hex digits_2 more)",
            name=name[: NAME_MAX + 1],
        )
    prefix, day, counter, node_id, seq, checksum = found.groups()
    try:
        day_start_ms(day)
    except InvalidNameError as error:
        raise InvalidNameError(f"name is {name!r}: {error}", name=name) from None
    expected = sum(_bytes_of_hex(counter + node_id + seq)) & 0xFF
    actual = int(checksum, 16)
    if actual != expected:
        raise InvalidNameError(
            f"name is {name!r}: its checksum is {checksum}, expected {expected:02X}", name=name
        )
    return ParsedName(prefix, day, int(node_id, 16), int(seq, 16), int(counter, 16), actual)


def created_ms_of(name: str, wrap_bits: int) -> int:
    """Return `created_ms` of a name that is known to be valid, without taking it apart.

    >>> created_ms_of("DES_20260228_(A6B1D9250100_56)", 32)
    1772323199269
    """
    start = day_start_ms(name[-26:-18])
    return start + ((int(name[-16:-8], 16) - start) & ((1 << wrap_bits) - 1))


def created_ms(parsed: ParsedName, wrap_bits: int) -> int:
    """Return when a name was made, in UTC milliseconds since 1970.

    The counter says the time modulo `2**wrap_bits`, the day says which of those times is meant.

    Raises:
        InvalidInputError: fewer than 27 or more than 32 wrap bits: the time would not be unique.
        InvalidNameError: no millisecond of the day has this counter; the name was made with other
            `wrap_bits`, or its day and its time were not read from one clock.
    """
    if not WRAP_BITS_MIN <= wrap_bits <= COUNTER_BITS:
        raise InvalidInputError(f"wrap bits are {wrap_bits!r}, expected {WRAP_BITS_MIN} to {COUNTER_BITS}")
    start = day_start_ms(parsed.day)
    offset = (parsed.counter_ms - start) & ((1 << wrap_bits) - 1)
    if offset >= DAY_MS or parsed.counter_ms >> wrap_bits:
        raise InvalidNameError(
            f"counter is {parsed.counter_ms:08X}, which no millisecond of day {parsed.day} has "
            f"with {wrap_bits} wrap bits"
        )
    return start + offset
