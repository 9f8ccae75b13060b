"""What every object store demands of its arguments, so that none takes what another refuses."""

import re
from collections.abc import Mapping
from typing import Final

from des.errors import InvalidInputError
from des.storage.object_store import ObjectChangedError, ObjectInfo

KEY_LENGTH_MAX: Final = 1024
"""Bytes of a key in UTF-8, as S3 has it."""
PART_LENGTH_MAX: Final = 240
"""Bytes between two slashes: file systems allow 255, and a name made from a part needs some."""

_KEY: Final = re.compile(r"[^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]*(?:/[^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]*)*")
_METADATA_KEY: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_METADATA_VALUE: Final = re.compile(r"[\x20-\x7e]{0,1024}")


class InvalidKeyError(InvalidInputError):
    """A key that is no plain relative path, or that runs through another object's key."""


class InvalidObjectMetadataError(InvalidInputError):
    """Metadata that an object store cannot carry in its headers."""


def check_key(key: str) -> None:
    """Refuse a key that could leave the store's root, hide in it, or not be written on some store.

    Raises:
        InvalidKeyError: empty, absolute, too long, not Unicode, with a control character, or with a
            part that is empty or starts with a dot.
    """
    if not _KEY.fullmatch(key):
        raise InvalidKeyError(
            f"key {key[:80]!r} is not parts joined by '/', none of them empty, starting with a dot "
            "or with a control character"
        )
    try:
        lengths = [len(part.encode()) for part in key.split("/")]
    except UnicodeEncodeError:
        raise InvalidKeyError(f"key {key[:80]!r} is not valid Unicode") from None
    if max(lengths) > PART_LENGTH_MAX or sum(lengths) + len(lengths) - 1 > KEY_LENGTH_MAX:
        raise InvalidKeyError(
            f"key {key[:80]!r} is too long: at most {KEY_LENGTH_MAX} bytes, {PART_LENGTH_MAX} in a part"
        )


def check_object_metadata(metadata: Mapping[str, str]) -> None:
    """Refuse metadata that does not survive as HTTP headers.

    Raises:
        InvalidObjectMetadataError: a key that is not lower case, or a value that is not short ASCII.
    """
    for key, value in metadata.items():
        if not _METADATA_KEY.fullmatch(key) or not _METADATA_VALUE.fullmatch(value):
            raise InvalidObjectMetadataError(
                f"object metadata {key[:80]!r}: {value[:80]!r} is not "
                "a lower-case key and a short ASCII value"
            )


def check_range(start: int, stop: int) -> None:
    """Refuse a range that runs backwards or starts before the object.

    Raises:
        ValueError: it does.
    """
    if not 0 <= start <= stop:
        raise ValueError(f"negative range: [{start}, {stop})")


def check_etag(info: ObjectInfo, etag: str | None) -> None:
    """Demand that the object is the one the caller knows.

    Raises:
        ObjectChangedError: it has another etag.
    """
    if etag is not None and etag != info.etag:
        raise ObjectChangedError(f"{info.key!r} has etag {info.etag!r}, expected {etag!r}", key=info.key)
