"""What a key in the object store says of its object: pure (DESIGN §3 and §4)."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from des.packer.deleted_names import DELETED_FOLDER
from des.storage.identity import STORE_ID

LOG_FOLDER: Final = "_log"
BIG_FILES_FOLDER: Final = "_bigFiles"

_CONTAINER: Final = re.compile(r"(\d{8})/([0-9a-f]+)/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.des")
_BIG_FILE: Final = re.compile(rf"(\d{{8}})/([0-9a-f]+)/{BIG_FILES_FOLDER}/(.+)\.([0-9a-f]{{8}})")


class ObjectKind(StrEnum):
    """What an object is, as far as its key tells."""

    CONTAINER = "container"
    BIG_FILE = "big file"
    LOG_SEGMENT = "log segment"
    STORE_ID = "store id"
    DELETED_NAMES = "deleted names"
    """A copy of tombstones: never removed."""
    FOREIGN = "foreign"
    """No key that DES makes: never touched."""


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """A key taken apart."""

    key: str
    kind: ObjectKind
    day: str = ""
    """YYYYMMDD, of containers and big files."""
    shard: int = 0
    """First shard of a container, shard of a big file."""
    name: str = ""
    """Container id, or name of a big file."""


def parse_key(key: str, *, prefix: str = "") -> ObjectKey:
    """Say what `key` is; `prefix` is the setting `object_prefix`.

    >>> parse_key("20260115/0a/0193a000-0000-7000-8000-000000000001.des").kind
    <ObjectKind.CONTAINER: 'container'>
    >>> parse_key("holiday.jpg").kind
    <ObjectKind.FOREIGN: 'foreign'>
    """
    folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    if not key.startswith(folder):
        return ObjectKey(key, ObjectKind.FOREIGN)
    rest = key.removeprefix(folder)
    if rest == STORE_ID:
        return ObjectKey(key, ObjectKind.STORE_ID)
    if rest.startswith(f"{LOG_FOLDER}/"):
        return ObjectKey(key, ObjectKind.LOG_SEGMENT)
    if rest.startswith(f"{DELETED_FOLDER}/"):
        return ObjectKey(key, ObjectKind.DELETED_NAMES)
    if match := _CONTAINER.fullmatch(rest):
        day, shard, container_id = match.groups()
        if UUID(container_id).version == 7:
            return ObjectKey(key, ObjectKind.CONTAINER, day, int(shard, 16), container_id)
    elif match := _BIG_FILE.fullmatch(rest):
        day, shard, name, _ = match.groups()
        return ObjectKey(key, ObjectKind.BIG_FILE, day, int(shard, 16), name)
    return ObjectKey(key, ObjectKind.FOREIGN)


def container_made_ms(container_id: str) -> int:
    """Return when a container's id was made, UTC milliseconds since 1970, as its UUIDv7 says (RFC 9562 §5.7).

    >>> container_made_ms("018bcfe5-6800-7000-8000-000000000000")
    1700000000000
    """
    return UUID(container_id).int >> 80
