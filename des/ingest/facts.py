"""What the ingest log keeps about a file besides its bytes and its place: one small JSON object."""

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from des.errors import CorruptError

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Made once: `json.dumps` makes an encoder for every call."""
_NONE: Final[Mapping[str, str]] = {}


class BadFactsError(CorruptError):
    """The facts of a log record are not what `FileFacts.encode` makes."""

    reason = "LOG_CORRUPT"


@dataclass(frozen=True, slots=True)
class ExternalObject:
    """Where a big file's bytes lie, and how to verify any part of them."""

    key: str
    etag: str
    block_size: int
    """Bytes per checksum block; the last one may be shorter."""
    block_crc32c: tuple[int, ...]
    """CRC32C of each block, in order."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Content type, user metadata, request id and, for a big file, its object."""

    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    external: ExternalObject | None = None

    def encode(self) -> bytes:
        """Return the canonical JSON: only what is set, keys in a fixed order, compact, UTF-8."""
        value: dict[str, object] = {}
        if self.content_type:
            value["content_type"] = self.content_type
        if self.metadata:
            value["metadata"] = dict(self.metadata)
        if self.request_id:
            value["request_id"] = self.request_id
        if self.external is not None:
            value["external"] = {
                "key": self.external.key,
                "etag": self.external.etag,
                "block_size": self.external.block_size,
                "block_crc32c": base64.b64encode(
                    struct.pack(f"<{len(self.external.block_crc32c)}I", *self.external.block_crc32c)
                ).decode(),
            }
        if not value:
            return b""
        return _encode(value).encode()

    @classmethod
    def decode(cls, data: bytes) -> "FileFacts":
        """Read what `encode` wrote.

        Raises:
            BadFactsError: not JSON of that form.
        """
        if not data:
            return _EMPTY
        try:
            value = json.loads(data)
            external = value.get("external")
            return cls(
                content_type=value.get("content_type", ""),
                metadata=value.get("metadata", _NONE),
                request_id=value.get("request_id", ""),
                external=None
                if external is None
                else ExternalObject(
                    key=external["key"],
                    etag=external["etag"],
                    block_size=external["block_size"],
                    block_crc32c=_unpack(base64.b64decode(external["block_crc32c"], validate=True)),
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise BadFactsError(
                f"facts of a log record are {data[:80]!r}, expected their JSON form"
            ) from error


def _unpack(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 4}I", data)


_EMPTY: Final = FileFacts()
