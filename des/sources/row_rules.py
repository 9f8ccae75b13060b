"""What is decided about a row from its values alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from des.naming import InvalidNameError, consistent_hash, parse_name
from des.sources.rows import FailReason, RowId
from des.sources.source_table import ERROR_LENGTH, SourceTable

HASH_BITS: Final = 32
"""Bits of the hash column: enough for any number of shards a store may have."""
KEY_BYTES_MAX: Final = 1024
"""Longest object key of S3, in UTF-8."""


@dataclass(frozen=True, slots=True)
class Naming:
    """The name that a row gets, or keeps."""

    id: RowId
    name: str
    hash: int
    shard: int

    def parameters(self, table: SourceTable) -> dict[str, Any]:
        """Return what `statements.mark` takes."""
        values = {"row_id": self.id, "new_name": self.name, "new_hash": self.hash}
        return values | ({"new_shard": self.shard} if table.has("shard") else {})


@dataclass(frozen=True, slots=True)
class Hopeless:
    """Why a row can never be packed as it is."""

    id: RowId
    reason: FailReason
    text: str


def name_row(row: Any, next_name: Callable[[], str], *, shard_bits: int) -> Naming | Hopeless:
    """Decide the name of an eligible row. One that it has already stays: a name is given once.

    >>> from types import SimpleNamespace
    >>> name_row(SimpleNamespace(id=7, key=None, name=None), str, shard_bits=8)
    Hopeless(id=7, reason=<FailReason.BAD_KEY: 'BAD_KEY'>, text='the key is NULL')
    """
    fault = key_fault(row.key)
    if fault:
        return Hopeless(row.id, FailReason.BAD_KEY, fault)
    name = row.name or ""
    if name:
        try:
            parse_name(name)
        except InvalidNameError as error:
            return Hopeless(row.id, FailReason.BAD_NAME, str(error))
    else:
        name = next_name()
    return Naming(row.id, name, consistent_hash(name, HASH_BITS), consistent_hash(name, shard_bits))


def key_fault(key: object) -> str:
    """Return what keeps a value from being an object key; empty when nothing does.

    Odd keys are allowed as far as S3 allows them: any characters but NUL, up to 1,024 bytes of UTF-8.
    """
    if key is None:
        return "the key is NULL"
    if not isinstance(key, str):
        return f"the key is {type(key).__name__}, expected text"
    if not key:
        return "the key is empty"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "the key is not valid Unicode"
    if size > KEY_BYTES_MAX:
        return f"the key has {size} bytes, at most {KEY_BYTES_MAX} are allowed"
    return "the key holds a NUL" if "\0" in key else ""


def backoff_ms(attempts: int, *, first_s: float, max_s: float) -> int:
    """Return the wait after the given number of failures: doubled each time, up to a limit.

    >>> [backoff_ms(n, first_s=30, max_s=100) for n in (1, 2, 3, 4, 500)]
    [30000, 60000, 100000, 100000, 100000]
    """
    return int(min(first_s * 2.0 ** min(attempts - 1, 60), max_s) * 1000)


def error_text(reason: FailReason, text: str, length: int | None) -> str:
    """Return what the error column gets: the reason, then what was found, as much as there is room for."""
    line = f"{reason.value}: {' '.join(text.split())}".replace("\0", "")
    return line[: min(length or ERROR_LENGTH, ERROR_LENGTH)]
