"""Messages put together byte by byte, where a batch makes fifty thousand parts a second.

`convert` is the model and says the same in objects; a test holds the two against each other. Numbers in
hexadecimal are protobuf tags: field number times 8, plus 0 for a varint, 2 for bytes, 5 for four bytes.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from des.files import FileInfo, FileState

_SHORT: Final = [bytes([n]) for n in range(0x80)] + [
    bytes((n & 0x7F | 0x80, n >> 7)) for n in range(0x80, 0x4000)
]
"""Numbers of one and two bytes, made once: 0.6 MB."""
_STATES: Final = {FileState.OPEN: b"0\x01", FileState.STORED: b"0\x02", FileState.DELETED: b"0\x03"}
"""FileInfo.state: tag 0x30, value."""


def varint(value: int) -> bytes:
    """Return a number, 0 or more, as protobuf writes it."""
    if value < 0x4000:
        return _SHORT[value]
    if value < 0x200000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    if value < 0x10000000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F | 0x80, value >> 21))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


_NANOS: Final = [b"", *(b"\x10" + varint(ms * 1_000_000) for ms in range(1, 1000))]
"""Timestamp.nanos by milliseconds."""


@lru_cache(maxsize=4096)
def _seconds(seconds: int) -> bytes:
    return b"\x08" + varint(seconds) if seconds else b""


@lru_cache(maxsize=4096)
def _created(ms: int) -> bytes:
    return b":" + timestamp(ms)


@lru_cache(maxsize=1024)
def _sealed(ms: int) -> bytes:
    return b"B" + timestamp(ms)


@lru_cache(maxsize=1024)
def _container(container_id: str) -> bytes:
    return text(b"\x0a", container_id)


def timestamp(ms: int) -> bytes:
    """Return a Timestamp with its length before it."""
    seconds, rest = divmod(ms, 1000)
    body = _seconds(seconds) + _NANOS[rest]
    return _SHORT[len(body)] + body


def text(tag: bytes, value: str) -> bytes:
    """Return a string field; nothing for an empty one."""
    if not value:
        return b""
    raw = value.encode()
    return tag + varint(len(raw)) + raw


def file_info(info: FileInfo) -> bytes:
    """Return a FileInfo of a file that is there, in FILE_VIEW_FULL."""
    name, _, shard, size, crc32c, content_type, metadata, state, created_ms, sealed_ms, placement, _ = info
    raw = name.encode()
    made = b"\x0a" + varint(len(raw)) + raw if raw else b""
    if shard:
        made += b"\x10" + varint(shard)
    if size:
        made += b"\x18" + varint(size)
    made += b'"\x05\x0d' + crc32c.to_bytes(4, "little")
    if content_type:
        made += text(b"*", content_type)
    made += _STATES[state] + _created(created_ms)
    if sealed_ms is not None:
        made += _sealed(sealed_ms)
    if metadata:
        made += _metadata(metadata)
    if placement is not None:
        container_id, offset, length, key = placement
        body = _container(container_id)
        if offset:
            body += b"\x10" + varint(offset)
        if length:
            body += b"\x18" + varint(length)
        if key:
            body += text(b'"', key)
        made += b"Z" + varint(len(body)) + body
    return made


def _metadata(metadata: Mapping[str, str]) -> bytes:
    parts: list[bytes] = []
    for key, value in metadata.items():
        # The keys of a map entry are written even where they are empty, as protobuf does.
        raw_key, raw_value = key.encode(), str(value).encode()
        entry = b"\x0a" + varint(len(raw_key)) + raw_key + b"\x12" + varint(len(raw_value)) + raw_value
        parts += (b"R", varint(len(entry)), entry)
    return b"".join(parts)


def file_part(
    *, index: int, info: bytes, offset: int, data: bytes, crc32c: int, last: bool, status: bytes = b""
) -> tuple[list[bytes], int]:
    """Return the pieces of one entry of BatchReadFilesResponse.parts, and their length together.

    `info` and `status` are messages; empty for none. A part with a status has no chunk.
    """
    size = len(data)
    head = b"\x08" + varint(index) if index else b""
    if status:
        head += b"\x12" + varint(len(status)) + status
    if info:
        head += b"\x1a" + varint(len(info)) + info
    if offset:
        head += b" " + varint(offset)
    if status:
        tail = b""
    else:
        if size:
            length = varint(size)
            head += b"*" + varint(6 + len(length) + size) + b"\x0a" + length
        else:
            head += b"*\x05"
        tail = b"\x15" + crc32c.to_bytes(4, "little")
    if last:
        tail += b"0\x01"
    body = len(head) + size + len(tail)
    lead = b"\x0a" + varint(body) + head
    return [lead, data, tail], len(lead) + size + len(tail)
