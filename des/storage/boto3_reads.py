"""Ranged reads through a boto3 client that the caller has already: what a reader of containers needs.

boto3 is imported only when a client is given; the extra `s3` brings it.
"""

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from des.storage.checks import check_range
from des.storage.object_store import ObjectDamagedError, ObjectInfo
from des.storage.s3_errors import Boto3Errors

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Boto3Reads:
    """Objects of one bucket, read-only. Calls run in threads; a boto3 client is safe for them."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._errors = Boto3Errors()

    async def get_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """Return exactly the bytes `[start, stop)`. Same errors as `ObjectStore.get_range`."""
        check_range(start, stop)
        if start == stop:
            return b""
        answer, data = await asyncio.to_thread(self._get, key, f"bytes={start}-{stop - 1}", etag)
        if self._place(key, answer)[:2] != (start, stop) or len(data) != stop - start:
            raise ObjectDamagedError(
                f"{key!r} answered {answer.get('ContentRange')!r} and {len(data)} bytes, "
                f"asked for [{start}, {stop})",
                key=key,
            )
        return data

    async def get_tail(self, key: str, size: int, *, etag: str | None = None) -> tuple[ObjectInfo, bytes]:
        """Return the last `size` bytes and what the store says. Same errors as `ObjectStore.get_tail`."""
        try:
            answer, data = await asyncio.to_thread(self._get, key, f"bytes=-{size}", etag)
        except ObjectDamagedError:
            # An object of no bytes has no last ones.
            info = await self.head(key)
            if info.size:
                raise
            return info, b""
        start, stop, whole = self._place(key, answer)
        if stop != whole or stop - start != len(data) or len(data) != min(size, whole):
            raise ObjectDamagedError(
                f"{key!r} answered {answer.get('ContentRange')!r} and {len(data)} bytes, "
                f"asked for the last {size}",
                key=key,
            )
        return _info(key, whole, answer), data

    async def head(self, key: str) -> ObjectInfo:
        """Return what the store knows about `key`. Same errors as `ObjectStore.head`."""

        def ask() -> Mapping[str, Any]:
            answer: Mapping[str, Any] = self._client.head_object(Bucket=self._bucket, Key=key)
            return answer

        answer = await asyncio.to_thread(self._errors.translated, key, ask)
        return _info(key, answer["ContentLength"], answer)

    def _get(self, key: str, wanted: str, etag: str | None) -> tuple[Mapping[str, Any], bytes]:
        condition = {} if etag is None else {"IfMatch": etag}

        def get() -> tuple[Mapping[str, Any], bytes]:
            answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=wanted, **condition)
            return answer, answer["Body"].read()

        return self._errors.translated(key, get)

    @staticmethod
    def _place(key: str, answer: Mapping[str, Any]) -> tuple[int, int, int]:
        """Return where the bytes of an answer start and stop, and how long the object is."""
        found = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
        if found is None:
            raise ObjectDamagedError(f"{key!r} answered without a range: the store ignores Range", key=key)
        return int(found[1]), int(found[2]) + 1, int(found[3])


def _info(key: str, size: int, answer: Mapping[str, Any]) -> ObjectInfo:
    modified: datetime = answer["LastModified"]
    return ObjectInfo(
        key=key,
        size=size,
        etag=answer["ETag"],
        metadata=answer.get("Metadata", {}),
        modified_ms=int(modified.timestamp() * 1000),
    )
