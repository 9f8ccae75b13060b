"""The connection to one bucket: credentials, endpoint, region, retries and timeouts, for both libraries.

boto3 writes and administers; obstore, several times cheaper per request, reads ranges.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from des.config import S3Settings
from des.errors import InvalidInputError
from des.storage.authorities import read_authorities
from des.storage.object_store import ObjectStoreUnavailableError
from des.storage.obstore_reads import ObstoreReads
from des.storage.obstore_retries import obstore_retries
from des.storage.s3_errors import Boto3Errors

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Credential

DEFAULT_REGION: Final = "us-east-1"
CREDENTIALS_KEPT: Final = timedelta(minutes=5)
"""How long obstore keeps credentials that change; boto3 renews them well before they end."""


class MissingExtraError(InvalidInputError):
    """The settings name a store whose libraries are not installed."""


class S3Client:
    """Calls to one bucket, each with a deadline, in a bounded number of threads."""

    def __init__(self, bucket: str, settings: S3Settings) -> None:
        try:
            import boto3  # noqa: PLC0415  optional dependency
            import obstore  # noqa: F401, PLC0415  optional dependency
        except ImportError as error:
            raise MissingExtraError(
                f"an S3 object store needs {error.name}: pip install 'des-store[s3]'"
            ) from error
        self.bucket: Final = bucket
        self.settings: Final = settings
        self._errors = Boto3Errors()
        self._threads = ThreadPoolExecutor(settings.connections, thread_name_prefix="s3")
        session = boto3.Session(
            aws_access_key_id=settings.access_key_id.get_secret_value() or None,
            aws_secret_access_key=settings.secret_access_key.get_secret_value() or None,
            aws_session_token=settings.session_token.get_secret_value() or None,
            region_name=settings.region or None,
            profile_name=settings.profile or None,
        )
        region = session.region_name or DEFAULT_REGION
        probe = session.client("s3", region_name=region, endpoint_url=settings.endpoint_url or None)
        endpoint = probe.meta.endpoint_url
        probe.close()
        in_path = _is_in_path(bucket, endpoint, settings.addressing)
        self.client: Final[Any] = session.client(
            "s3",
            region_name=region,
            endpoint_url=endpoint,
            verify=None if settings.ca_bundle is None else str(settings.ca_bundle),
            config=_boto3_config(settings, in_path=in_path, is_secure=endpoint.startswith("https:")),
        )
        self.reads: Final = ObstoreReads(
            _obstore(session, bucket, settings, region=region, endpoint=endpoint, in_path=in_path),
            timeout_s=settings.deadline_s,
        )

    async def call(
        self,
        key: str,
        operation: Callable[..., Mapping[str, Any]],
        *,
        sent_bytes: int = 0,
        needs: Sequence[str] = (),
        **arguments: Any,
    ) -> Mapping[str, Any]:
        """Run a blocking call in one of the store's threads.

        Args:
            key: of the object, for messages.
            operation: a method of the boto3 client.
            sent_bytes: length of the body, for which the deadline is extended.
            needs: fields without which it is no answer: a head that was cut off looks whole to HTTP.
            arguments: of the method.

        Raises:
            ObjectStoreUnavailableError: no answer within the deadline; it may still take effect.
            DesError: the store's answer, translated.
        """
        deadline_s = self.settings.deadline_s + sent_bytes / self.settings.upload_bytes_per_s_min
        call = partial(self._errors.translated, key, partial(operation, **arguments))
        try:
            async with asyncio.timeout(deadline_s):
                answer = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except TimeoutError:
            raise ObjectStoreUnavailableError(
                f"no answer of the store about {key!r} within {deadline_s:.0f} s", key=key
            ) from None
        if missing := [name for name in needs if name not in answer]:
            raise ObjectStoreUnavailableError(
                f"the answer about {key!r} lacks {', '.join(missing)}: it was cut off", key=key
            )
        return answer

    async def close(self) -> None:
        """Give connections back; calls that wait for a thread are dropped."""
        await asyncio.to_thread(self._threads.shutdown, wait=False, cancel_futures=True)
        self.client.close()


def _is_in_path(bucket: str, endpoint: str, addressing: str) -> bool:
    if addressing == "auto":
        host = urlsplit(endpoint).hostname or ""
        # A certificate for *.s3.… does not cover a bucket with dots.
        return not host.endswith((".amazonaws.com", ".amazonaws.com.cn")) or "." in bucket
    return addressing == "path"


def _boto3_config(settings: S3Settings, *, in_path: bool, is_secure: bool) -> Any:
    from botocore.config import Config  # noqa: PLC0415  optional dependency

    s3: dict[str, Any] = {"addressing_style": "path" if in_path else "virtual"}
    if is_secure and settings.checksum != "when_required":
        # The checksum proves the bytes and TLS who sent them: no SHA-256 of each.
        s3["payload_signing_enabled"] = False
    return Config(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        max_pool_connections=settings.connections,
        retries={"total_max_attempts": settings.attempts, "mode": "standard"},
        # The checksums are ours: whole objects, known before the first byte leaves, no trailers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3=s3,
    )


def _obstore(
    session: Any, bucket: str, settings: S3Settings, *, region: str, endpoint: str, in_path: bool
) -> Any:
    from obstore.store import S3Store  # noqa: PLC0415  optional dependency

    place = urlsplit(endpoint)
    if not in_path:
        place = place._replace(netloc=f"{bucket}.{place.netloc}")
    options: ClientConfig = {
        "allow_http": place.scheme == "http",
        "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
        "timeout": timedelta(seconds=settings.read_timeout_s),
    }
    if settings.ca_bundle is not None:
        options["root_certificate"] = read_authorities(settings.ca_bundle)
    return S3Store(
        bucket,
        region=region,
        endpoint=urlunsplit(place),
        virtual_hosted_style_request=not in_path,
        client_options=options,
        retry_config=obstore_retries(settings),
        credential_provider=_Credentials(session),
    )


class _Credentials:
    """Gives obstore the credentials that boto3 found, so that both libraries are one principal."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def __call__(self) -> "S3Credential":
        # Roles of instances and containers are asked for over HTTP.
        return await asyncio.to_thread(self._read)

    def _read(self) -> "S3Credential":
        found = self._session.get_credentials()
        if found is None:
            raise PermissionError("no credentials for the object store")
        frozen = found.get_frozen_credentials()
        changes = hasattr(found, "refresh_needed")
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + CREDENTIALS_KEPT if changes else None,
        }
