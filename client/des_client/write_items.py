"""What one file of `put_many` needs before it can be packed among others. No I/O but the item's own data."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from des_client.items import PutItem
from des_client.source import MemorySource, Source, open_source
from des_client.types import Limits

MESSAGE_BYTES: Final = 1 << 20
"""Serialized length of a message aimed at: past it a message only costs latency and memory."""
MESSAGE_ITEMS: Final = 2_000

ITEM_BYTES: Final = 160
"""More than tags, lengths, numbers, checksums and a request id of one item ever take on the wire."""
ENTRY_BYTES: Final = 16
"""The same for one entry of metadata."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much goes into one message."""

    message_bytes: int
    """Serialized."""
    message_items: int
    data_bytes: int
    """Longest content that is sent among others; longer ones take a stream of their own."""

    @classmethod
    def of(cls, limits: Limits | None) -> "Sizes":
        """Obey the server's limits, which count the serialized message."""
        message_bytes, items, chunk_bytes = MESSAGE_BYTES, MESSAGE_ITEMS, MESSAGE_BYTES
        if limits is not None:
            told = limits.max_batch_message_bytes or limits.max_message_bytes or message_bytes
            message_bytes = min(message_bytes, told)
            items = min(items, limits.max_batch_items or items)
            chunk_bytes = limits.max_chunk_bytes or chunk_bytes
        return cls(message_bytes, items, min(chunk_bytes, message_bytes - message_bytes // 8))


Content: TypeAlias = bytes | Source | Exception
"""What an item's data came to: small, large, or why it cannot be read."""


def load(item: Any, size_max: int) -> Content:
    """Read an item's data if it is small; a larger source is left open for the caller to send and close.

    What goes wrong is returned, since it concerns this item alone.
    """
    data = item.data if isinstance(item, PutItem) else item
    if type(data) is bytes:
        return data if len(data) <= size_max else MemorySource(data)
    try:
        source = open_source(data, None)
        try:
            content = source.whole(size_max)
        except BaseException:
            source.close()
            raise
    except Exception as failed:  # noqa: BLE001  whatever a caller's source raises
        return failed
    if content is None:
        return source
    source.close()
    return content


def request_ids() -> Iterator[str]:
    """Make version 4 UUIDs, many at a time: one by one they cost more than the rest of a small file."""
    while True:
        text = os.urandom(16 * 256).hex()
        for at in range(0, len(text), 32):
            yield (
                f"{text[at : at + 8]}-{text[at + 8 : at + 12]}-4{text[at + 13 : at + 16]}"
                f"-8{text[at + 17 : at + 20]}-{text[at + 20 : at + 32]}"
            )


def text_bytes(item: PutItem) -> int:
    """Return an upper bound of what an item's texts take on the wire."""
    texts = [item.name or "", item.prefix or "", item.content_type, item.request_id or ""]
    size = 0
    if item.metadata:
        for key, value in item.metadata.items():
            texts += key, value
            size += ENTRY_BYTES
    # UTF-8 takes at most four bytes for a character.
    return size + sum(len(text) if text.isascii() else 4 * len(text) for text in texts)


def options(item: PutItem | None, prefix: str) -> dict[str, Any]:
    """Return how `put` is asked for an item that takes a stream of its own."""
    if item is None:
        return {"name": None, "prefix": prefix, "content_type": "", "metadata": None, "request_id": None}
    return {
        "name": item.name,
        "prefix": (prefix if item.name is None else "") if item.prefix is None else item.prefix,
        "content_type": item.content_type,
        "metadata": item.metadata,
        "request_id": item.request_id,
    }
