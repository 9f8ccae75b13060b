"""Objects of a source in S3: any key that S3 takes, read exactly as it is spelt.

Plain keys are asked for through obstore, at about a tenth of boto3's processor time. obstore would
rewrite odd ones, and tells fewer errors apart: whatever is not a clear answer is asked again of boto3.
"""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from des.config import S3Settings
from des.errors import DesError
from des.sources.config import ObjectsConfig
from des.sources.errors import DriverMissingError
from des.sources.objects import (
    CHUNK,
    ObjectDiffersError,
    ObjectForbiddenError,
    ObjectMissingError,
    ObjectsUnavailableError,
    ObjectTooLargeError,
    OpenObject,
)
from des.storage.authorities import read_authorities
from des.storage.object_store import NoSuchBucketError, NoSuchObjectError, ObjectChangedError
from des.storage.s3 import S3StorageBackend

ATTEMPTS: Final = 3
"""Tries of one request by the SDK, with its own pauses."""
_PLAIN: Final = re.compile(r"(?:[A-Za-z0-9_=-][A-Za-z0-9_=.-]*/)*[A-Za-z0-9_=-][A-Za-z0-9_=.-]*")
"""Keys that no library spells otherwise."""
_MISSING: Final = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound"})
_DIFFERS: Final = frozenset({"412", "PreconditionFailed"})
_FORBIDDEN: Final = frozenset({"403", "AccessDenied", "AllAccessDisabled", "InvalidObjectState", "Forbidden"})
_BAD_KEY: Final = frozenset({"KeyTooLongError", "InvalidURI", "400", "InvalidArgument"})


class S3SourceObjects:
    """Reads objects of the buckets that one source lists; redirects to other hosts are not followed."""

    def __init__(self, config: ObjectsConfig, *, connections: int) -> None:
        """Connect nothing yet.

        Raises:
            DriverMissingError: boto3 is not installed.
            BadAuthoritiesError: `ca_bundle` is no file of certificates.
        """
        if config.ca_bundle is not None:
            read_authorities(config.ca_bundle)
        try:
            import boto3  # noqa: PLC0415  optional dependency
            from botocore.config import Config  # noqa: PLC0415
            from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError  # noqa: PLC0415
        except ImportError:
            raise DriverMissingError(
                "S3 objects need the Python package boto3: pip install 'des-store[s3]'"
            ) from None
        self._client_error: type[Exception] = ClientError
        self._failures: tuple[type[Exception], ...] = (BotoCoreError, HTTPClientError, OSError)
        self._config = config
        self._plain: dict[str, S3StorageBackend] = {}
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="des-objects")
        session = boto3.session.Session(
            aws_access_key_id=config.access_key.get_secret_value() or None,
            aws_secret_access_key=config.secret_key.get_secret_value() or None,
            aws_session_token=config.session_token.get_secret_value() or None,
        )
        self._client: Any = session.client(
            "s3",
            endpoint_url=config.endpoint or None,
            region_name=config.region,
            verify=None if config.ca_bundle is None else str(config.ca_bundle),
            config=Config(
                max_pool_connections=connections,
                connect_timeout=config.timeout_s,
                read_timeout=config.timeout_s,
                retries={"max_attempts": ATTEMPTS, "mode": "standard"},
                s3={"addressing_style": config.addressing},
            ),
        )

    async def open(
        self, bucket: str, key: str, *, etag: str | None, size: int | None, size_max: int
    ) -> OpenObject:
        """Ask for an object; see `SourceObjects.open`."""
        if _PLAIN.fullmatch(key) and (size is None or size <= CHUNK):
            short = await self._open_short(bucket, key, etag, size_max)
            if short is not None:
                return short
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._open, bucket, key, etag, size_max
        )

    async def _open_short(
        self, bucket: str, key: str, etag: str | None, size_max: int
    ) -> "ShortObject | None":
        """Ask for the last bytes of an object, which are all of a short one; None to ask boto3 instead."""
        store = self._plain.get(bucket)
        if store is None:
            store = self._plain[bucket] = S3StorageBackend(bucket, settings=_s3_settings(self._config))
        quoted = None if not etag else '"' + etag.strip('"') + '"'
        try:
            info, data = await store.get_tail(key, CHUNK, etag=quoted)
        except (NoSuchBucketError, NoSuchObjectError) as error:
            raise ObjectMissingError(f"{bucket}/{key}: {error}") from error
        except ObjectChangedError as error:
            raise ObjectDiffersError(f"{bucket}/{key}: its etag is not {etag}") from error
        except DesError:
            return None
        if info.size > size_max or info.size > CHUNK:
            return None
        return ShortObject(data, info.etag.strip('"'))

    async def close(self) -> None:
        """Give connections back, once reads under way are done."""
        for store in self._plain.values():
            await store.close()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._client.close()

    def _open(self, bucket: str, key: str, etag: str | None, size_max: int) -> "S3Object":
        asked = {"Bucket": bucket, "Key": key}
        if etag:
            asked["IfMatch"] = '"' + etag.strip('"') + '"'
        try:
            answer = self._client.get_object(**asked)
        except self._client_error as error:
            raise self._translate(error, bucket, key, etag) from error
        except self._failures as error:
            raise ObjectsUnavailableError(f"{bucket}/{key}: {_words(error)}") from error
        body = answer["Body"]
        size, found_etag = int(answer["ContentLength"]), answer.get("ETag", "").strip('"')
        found = S3Object(self, body, size=size, etag=found_etag)
        if found.size > size_max:
            found.hang_up()
            raise ObjectTooLargeError(
                f"{bucket}/{key}: the object has {found.size} bytes, at most {size_max} are allowed",
                size=found.size,
                max_size=size_max,
            )
        if etag and found.etag and found.etag != etag.strip('"'):
            # A service that ignores If-Match.
            found.hang_up()
            raise ObjectDiffersError(f"{bucket}/{key}: etag is {found.etag}, expected {etag}")
        if found.size <= CHUNK:
            found.first = self.read(body, found.size)
            body.close()
            if len(found.first) != found.size:
                raise ObjectsUnavailableError(
                    f"{bucket}/{key}: {len(found.first)} of {found.size} bytes came"
                )
        return found

    def read(self, body: Any, size: int) -> bytes:
        """Read from an answer's body; for `S3Object`."""
        try:
            data: bytes = body.read(size) if size else b""
        except self._failures as error:
            raise ObjectsUnavailableError(f"the rest of an object did not come: {_words(error)}") from error
        return data

    async def read_in_thread(self, body: Any, size: int) -> bytes:
        """Read from an answer's body without blocking; for `S3Object`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.read, body, size)

    def _translate(self, error: Any, bucket: str, key: str, etag: str | None) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        where = f"{bucket}/{key}"
        if code in _MISSING:
            return ObjectMissingError(f"{where}: {code}")
        if code in _DIFFERS:
            return ObjectDiffersError(f"{where}: its etag is not {etag}")
        if code in _FORBIDDEN or code in _BAD_KEY:
            return ObjectForbiddenError(f"{where}: {code}")
        return ObjectsUnavailableError(f"{where}: {code or status}: {_words(error)}")


class S3Object:
    """An answer of `S3SourceObjects`."""

    def __init__(self, objects: S3SourceObjects, body: Any, *, size: int, etag: str) -> None:
        self._objects = objects
        self._body = body
        self._left = size
        self.size = size
        self.etag = etag
        self.first = b""

    async def read(self) -> bytes:
        """Return the next bytes; see `OpenObject.read`."""
        if not self._left or self.size <= CHUNK:
            return b""
        data = await self._objects.read_in_thread(self._body, min(CHUNK, self._left))
        if not data:
            raise ObjectsUnavailableError(f"{self._left} of {self.size} bytes did not come")
        self._left -= len(data)
        return data

    async def close(self) -> None:
        """Give the connection back; one with bytes still to come is cut, not drained."""
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection."""
        self._body.close()


class ShortObject:
    """An object that was read whole."""

    def __init__(self, data: bytes, etag: str) -> None:
        self.first = data
        self.size = len(data)
        self.etag = etag

    async def read(self) -> bytes:
        """Return nothing: all of it is in `first`."""
        return b""

    async def close(self) -> None:
        """There is nothing to give back."""


def _s3_settings(config: ObjectsConfig) -> S3Settings:
    return S3Settings(
        endpoint_url=config.endpoint,
        region=config.region,
        access_key_id=config.access_key,
        secret_access_key=config.secret_key,
        session_token=config.session_token,
        addressing=config.addressing,
        ca_bundle=config.ca_bundle,
        connect_timeout_s=config.timeout_s,
        read_timeout_s=config.timeout_s,
        deadline_s=config.timeout_s * 2,
        # What fails is asked again of boto3, which has its own attempts.
        attempts=1,
    )


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
