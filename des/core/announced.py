"""What was announced of a file, held against the bytes that came."""

from collections.abc import Iterable, Iterator

import google_crc32c

from des.errors import CorruptError
from des.files import BLOCK_SIZE
from des.format.checksums import Checksums, block_checksums
from des.format.errors import InvalidEntryError
from des.format.system_metadata import SystemMetadata


class SourceMismatchError(CorruptError):
    """The bytes given to the writer are not those announced."""


def check_whole(
    name: str, data: bytes, *, size: int | None, system: SystemMetadata, crc32c: int | None
) -> int:
    """Demand that `data` is what was announced; return its CRC32C.

    Raises:
        InvalidEntryError: what was announced contradicts itself.
        SourceMismatchError: other bytes came.
    """
    length = len(data)
    if size is not None and size != length:
        raise SourceMismatchError(f"{name!r} has {length} bytes, announced were {size}", name=name)
    found: int = google_crc32c.value(data)
    if crc32c is not None and crc32c != found:
        raise SourceMismatchError(f"{name!r} has CRC32C {found:08x}, announced was {crc32c:08x}", name=name)
    if system.block_size is None:
        return found
    check_blocks(name, system, length)
    if block_checksums(data, system.block_size) != system.block_crc32c:
        raise SourceMismatchError(f"{name!r} does not have the block checksums announced", name=name)
    return found


def verified(
    name: str, chunks: Iterable[bytes], *, size: int, system: SystemMetadata, crc32c: int | None
) -> Iterator[bytes]:
    """Yield a stream as it comes, never more than announced; at its end demand that it was what was.

    Raises:
        SourceMismatchError: it was not; what was yielded is worth nothing.
    """
    checksums = Checksums(system.block_size or BLOCK_SIZE)
    for chunk in chunks:
        # Not bytes(chunk) alone: of a number that would be so many zeros.
        data = chunk if isinstance(chunk, bytes) else bytes(memoryview(chunk))
        if checksums.size + len(data) > size:
            raise SourceMismatchError(f"{name!r} is longer than the {size} bytes announced", name=name)
        checksums.update(data)
        yield data
    if checksums.size != size:
        raise SourceMismatchError(f"{name!r} has {checksums.size} bytes, announced were {size}", name=name)
    if crc32c is not None and checksums.crc32c != crc32c:
        raise SourceMismatchError(
            f"{name!r} has CRC32C {checksums.crc32c:08x}, announced was {crc32c:08x}", name=name
        )
    if system.block_size is not None and checksums.block_crc32c != system.block_crc32c:
        raise SourceMismatchError(f"{name!r} does not have the block checksums announced", name=name)


def gather(name: str, chunks: Iterable[bytes], size: int) -> bytes:
    """Return a stream of at most `size` bytes in one piece.

    Raises:
        SourceMismatchError: it is longer.
    """
    gathered = bytearray()
    for chunk in chunks:
        gathered += memoryview(chunk)
        if len(gathered) > size:
            raise SourceMismatchError(f"{name!r} is longer than the {size} bytes announced", name=name)
    return bytes(gathered)


def check_blocks(name: str, system: SystemMetadata, size: int) -> None:
    """Demand that block checksums, where there are any, fit a file of `size` bytes.

    Raises:
        InvalidEntryError: they do not.
    """
    try:
        system.check_blocks(size)
    except ValueError as error:
        raise InvalidEntryError(f"system metadata of {name!r}: {error}", name=name) from error
