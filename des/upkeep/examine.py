"""Reads a recorded container and says what is known of it afterwards.

"I could not read it" is not "it is corrupt" is not "it is gone": each has a verdict of its own, and only
what was really read is ever called corrupt.
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from des.core import S3DesReader
from des.db.catalog import ContainerRow
from des.errors import CorruptError, DesError, NotFoundError, PreconditionError
from des.format.block_crc import BlockCrc
from des.format.byte_range import ByteRange
from des.format.ext import open_end, read_section
from des.format.plan import run_async
from des.format.section_table import SectionKind
from des.packer.object_metadata import CONTAINER_ID, SHA256
from des.storage.object_store import NoSuchObjectError, ObjectChangedError, ObjectInfo, ObjectStore

READ_SIZE: Final = 8 << 20
"""Bytes of one read when a whole object is summed."""


class Verdict(StrEnum):
    """What is known of an object after it was looked at."""

    SOUND = "sound"
    MISSING = "missing"
    """The store answered that there is no such object."""
    REFUSED = "refused"
    """The store did not let us read: says nothing about the object."""
    UNAVAILABLE = "unavailable"
    """No answer, or one that is to be asked for again: says nothing about the object."""
    CHANGED = "changed"
    """Another object than the one recorded lies under the key."""
    CORRUPT = "corrupt"
    """It was read, and what was read is not what was written."""

    @property
    def is_known(self) -> bool:
        """Whether it says anything about the object."""
        return self not in {Verdict.REFUSED, Verdict.UNAVAILABLE}


class Depth(IntEnum):
    """How much of a container is read."""

    OBJECT = 0
    """Nothing: one HEAD, for size, etag and identity."""
    STRUCTURE = 1
    """Footer, EXT, INDEX and pages."""
    DATA = 2
    """Every byte, compared with the SHA-256 that was recorded."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What one look at a container gave."""

    verdict: Verdict
    detail: str = ""
    """What was found and expected; empty when it is sound."""
    info: ObjectInfo | None = None
    """What the store said, if it did."""


async def examine(store: ObjectStore, row: ContainerRow, depth: Depth) -> Examination:
    """Look at the object of `row`; errors become a verdict. Costs 1 or about 4 requests, or a whole read."""
    try:
        info = await store.head(row.key)
        if detail := _not_recorded(row, info):
            return Examination(Verdict.CHANGED, detail, info)
        if depth >= Depth.STRUCTURE:
            await _read_structure(store, row, info)
        if depth >= Depth.DATA and (detail := await _other_bytes(store, row, info)):
            return Examination(Verdict.CORRUPT, detail, info)
    except DesError as error:
        return Examination(verdict_of(error), str(error))
    return Examination(Verdict.SOUND, info=info)


def verdict_of(error: DesError) -> Verdict:
    """Say what a failed read proves; whatever is not known to prove something proves nothing."""
    match error:
        case NoSuchObjectError():
            return Verdict.MISSING
        case ObjectChangedError():
            return Verdict.CHANGED
        case CorruptError():
            return Verdict.CORRUPT
        case PreconditionError() | NotFoundError():
            return Verdict.REFUSED
        case _:
            return Verdict.UNAVAILABLE


def _not_recorded(row: ContainerRow, info: ObjectInfo) -> str:
    """Say how the object differs from the row; empty when it does not."""
    if info.size != row.geometry.size:
        return f"object {row.key!r} has {info.size} bytes, recorded are {row.geometry.size}"
    if row.etag and info.etag != row.etag:
        return f"object {row.key!r} has etag {info.etag!r}, recorded is {row.etag!r}"
    for key, wanted in ((CONTAINER_ID, row.container_id), (SHA256, row.sha256)):
        found = info.metadata.get(key, wanted)
        if found != wanted:
            return f"object {row.key!r} says {key} {found!r}, recorded is {wanted!r}"
    return ""


async def _read_structure(store: ObjectStore, row: ContainerRow, info: ObjectInfo) -> None:
    """Read all but the files.

    Raises:
        DesError: it cannot be read, or is damaged.
    """
    reader = S3DesReader(store, row.key, etag=info.etag, size=info.size)
    await reader.open()
    index = await reader.get_index()
    if len(index) != row.geometry.file_count:
        raise CorruptError(
            f"container {row.container_id} has {len(index)} files, recorded are {row.geometry.file_count}"
        )
    if row.name_first:
        names = [entry.name for entry in index]
        if (min(names, default=""), max(names, default="")) != (row.name_first, row.name_last):
            raise CorruptError(
                f"container {row.container_id} has names from {min(names, default='')!r} to "
                f"{max(names, default='')!r}, recorded are {row.name_first!r} to {row.name_last!r}"
            )
    await reader.check_pages()


async def _other_bytes(store: ObjectStore, row: ContainerRow, info: ObjectInfo) -> str:
    """Say how the bytes differ from those recorded; empty when they do not.

    Recorded is the SHA-256 of EXT and FOOTER, which have that of all before them; or, by earlier releases,
    that of the whole object.
    """
    ext_start = row.geometry.index_start + row.geometry.index_length
    before, end = hashlib.sha256(), hashlib.sha256()
    whole = before
    for first, last in ((0, ext_start), (ext_start, info.size)):
        for start in range(first, last, READ_SIZE):
            data = await store.get_range(row.key, start, min(start + READ_SIZE, last), etag=info.etag)
            whole.update(data)
            if start >= ext_start:
                end.update(data)
        if whole is before:
            whole = before.copy()
    if whole.hexdigest() == row.sha256:
        return ""
    if end.hexdigest() != row.sha256:
        return (
            f"object {row.key!r} has SHA-256 {whole.hexdigest()}, its end {end.hexdigest()}, "
            f"recorded is {row.sha256}"
        )
    root = await _root(store, info)
    if root == before.digest():
        return ""
    return (
        f"object {row.key!r} has SHA-256 {before.hexdigest()} before its end, which says "
        f"{'nothing' if root is None else root.hex()}"
    )


async def _root(store: ObjectStore, info: ObjectInfo) -> bytes | None:
    """Return the SHA-256 that EXT has of all before it; None where it has none.

    Raises:
        CorruptError: the end is damaged.
    """

    async def read(wanted: ByteRange) -> bytes:
        return await store.get_range(info.key, wanted.start, wanted.stop, etag=info.etag)

    opened = await run_async(open_end(info.size), read)
    section = None if opened.ext is None else opened.ext.section(SectionKind.BLOCKCRC)
    if section is None:
        return None
    return BlockCrc.decode(
        await run_async(read_section(section), read), section, opened.footer.index_stop
    ).root
