"""How a file that was located is read out of its container: which ranges, and what proves them."""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from des.core.container_object import ContainerObject
from des.core.joined_reads import Joining, fetch_joined
from des.core.located import Located
from des.errors import CorruptError
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.errors import UnsupportedContainerError
from des.format.extent import PIECE_SIZE_MAX
from des.format.index import IndexEntry
from des.format.locate import read_bare
from des.format.metadata import Metadata
from des.format.plan import Reads, file_ranges, read_data, read_file, run_async

ReadResult: TypeAlias = tuple[bytes, Metadata] | CorruptError | UnsupportedContainerError


def is_joinable(entry: IndexEntry) -> bool:
    """Whether the file lies in the container and is short enough to be held whole."""
    return not entry.is_external and entry.data_length <= PIECE_SIZE_MAX


def dictionaries_of(container: ContainerObject) -> Dictionaries:
    """Return the dictionaries of an opened container."""
    return container.memory.dictionaries_of(container.data_start)


def ranges_of(container: ContainerObject, found: Located) -> list[ByteRange]:
    """Return the ranges that `plan_of` reads, dictionaries aside."""
    if found.is_bare:
        return [ByteRange(found.entry.data_offset, found.entry.data_offset + found.entry.data_length)]
    return file_ranges(found.entry, container.layout)


def plan_of(container: ContainerObject, found: Located) -> Reads[bytes]:
    """Plan the reads of a joinable file's bytes."""
    if found.record is not None and found.is_bare:
        return read_bare(found.record, found.entry.name, found.digest)
    return read_data(found.entry, container.layout, dictionaries_of(container))


async def read_many(
    container: ContainerObject,
    wanted: Mapping[str, Located],
    read_alone: Callable[[Located], Coroutine[Any, Any, bytes]],
    joining: Joining,
) -> dict[str, bytes]:
    """Return located files by name, neighbours joined; those that cannot be joined by `read_alone`, beside.

    Raises:
        CorruptError: one of the files is damaged.
        UnsupportedContainerError: one is encrypted or deleted; nothing was read.
    """
    for found in wanted.values():
        found.entry.check_readable(container.layout)
    files: dict[str, bytes] = dict.fromkeys(wanted, b"")
    joinable = [found for found in wanted.values() if is_joinable(found.entry) and found.entry.data_length]

    async def fetch_alone(found: Located) -> None:
        files[found.entry.name] = await read_alone(found)

    read = await fetch_joined(
        [one for found in joinable for one in ranges_of(container, found)],
        container.read,
        joining,
        beside=[partial(fetch_alone, found) for found in wanted.values() if not is_joinable(found.entry)],
    )
    for found in joinable:
        files[found.entry.name] = await run_async(plan_of(container, found), read)
    return files


async def read_listed(
    container: ContainerObject,
    entries: Sequence[IndexEntry],
    apart: Iterable[IndexEntry],
    read_alone: Callable[[IndexEntry], Coroutine[Any, Any, tuple[bytes, Metadata]]],
    joining: Joining,
) -> list[ReadResult]:
    """Return files and their metadata in the order of `entries`, neighbours joined.

    Those of `apart` are read by `read_alone`, beside. A file that cannot be read is an error in its place.
    """
    lone: dict[IndexEntry, ReadResult] = {}

    async def fetch_alone(entry: IndexEntry) -> None:
        try:
            lone[entry] = await read_alone(entry)
        except (CorruptError, UnsupportedContainerError) as error:
            lone[entry] = error

    alone = set(apart)
    read = await fetch_joined(
        [piece for entry in entries if entry not in alone for piece in file_ranges(entry, container.layout)],
        container.read,
        joining,
        beside=[partial(fetch_alone, entry) for entry in alone],
    )
    results: list[ReadResult] = []
    for entry in entries:
        if entry in alone:
            results.append(lone[entry])
            continue
        try:
            plan = read_file(entry, container.layout, dictionaries_of(container))
            results.append(await run_async(plan, read))
        except (CorruptError, UnsupportedContainerError) as error:
            results.append(error)
    return results
