"""Connections of obstore to Google Cloud Storage and to Azure, from the settings, and how they differ."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from des.config import AzureSettings, GcsSettings, StoreSettings
from des.errors import InvalidInputError
from des.storage.authorities import read_authorities
from des.storage.obstore_retries import obstore_retries
from des.storage.s3_client import MissingExtraError

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, GCSConfig

_ESCAPED: Final = re.compile(r"_([0-9a-f]{2})")
_ESCAPE: Final = re.compile(r"^[0-9]|[-_]")


class BadStoreSettingsError(InvalidInputError):
    """The settings of the store do not make a connection."""


@dataclass(frozen=True, slots=True)
class StoreDialect:
    """What one kind of store wants otherwise than the other."""

    kind: Literal["gcs", "azure"]
    suffix_ranges: bool
    """The last bytes can be asked for without knowing the length."""
    encode: Callable[[str], str]
    """Gives a metadata key as the store takes it."""
    decode: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class StoreConnections:
    """Two connections to one bucket: their requests may take unequally long."""

    reads: Any
    writes: Any
    dialect: StoreDialect


def encode_identifier(key: str) -> str:
    """Return a metadata key as a C# identifier, which is all that Azure takes.

    >>> encode_identifier("des-write"), encode_identifier("7_x")
    ('des_2dwrite', '_37_5fx')
    """
    return _ESCAPE.sub(lambda found: f"_{ord(found[0]):02x}", key)


def decode_identifier(name: str) -> str:
    """Return the metadata key of an identifier.

    >>> decode_identifier("des_2dwrite"), decode_identifier("_37_5fx")
    ('des-write', '7_x')
    """
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)


_GCS: Final = StoreDialect("gcs", suffix_ranges=True, encode=str, decode=str)
_AZURE: Final = StoreDialect("azure", suffix_ranges=False, encode=encode_identifier, decode=decode_identifier)


def connect_gcs(bucket: str, settings: GcsSettings) -> StoreConnections:
    """Return connections to a bucket; nothing is asked of it yet.

    Raises:
        MissingExtraError: obstore is not installed.
        BadStoreSettingsError: a key or a file of the settings cannot be used.
    """
    config: GCSConfig = {}
    if settings.endpoint_url:
        config["base_url"] = settings.endpoint_url
    if settings.service_account is not None:
        config["service_account"] = str(settings.service_account)
    if key := settings.service_account_key.get_secret_value():
        config["service_account_key"] = key
    if token := settings.token.get_secret_value():
        config["bearer_token"] = token
    return _connect("GCSStore", bucket, config, settings, _GCS)


def connect_azure(container: str, settings: AzureSettings) -> StoreConnections:
    """Return connections to a container; nothing is asked of it yet.

    Raises:
        MissingExtraError: obstore is not installed.
        BadStoreSettingsError: no account, or a key that is none.
    """
    config: AzureConfig = {}
    if settings.endpoint_url:
        config["endpoint"] = settings.endpoint_url
    if settings.account:
        config["account_name"] = settings.account
    if key := settings.account_key.get_secret_value():
        config["account_key"] = key
    if signature := settings.sas_token.get_secret_value():
        config["sas_key"] = signature.removeprefix("?")
    return _connect("AzureStore", container, config, settings, _AZURE)


def _connect(
    name: str, bucket: str, config: Mapping[str, Any], settings: StoreSettings, dialect: StoreDialect
) -> StoreConnections:
    try:
        from obstore import store  # noqa: PLC0415  optional dependency
        from obstore.exceptions import BaseError  # noqa: PLC0415  optional dependency
    except ImportError as error:
        raise MissingExtraError(
            f"a store on {dialect.kind} needs {error.name}: pip install 'des-store[{dialect.kind}]'"
        ) from error
    write_s = settings.read_timeout_s + settings.part_bytes / settings.upload_bytes_per_s_min

    def connected(timeout_s: float) -> Any:
        return getattr(store, name)(
            bucket,
            config=config,
            client_options=_client_options(settings, timeout_s),
            retry_config=obstore_retries(settings),
        )

    try:
        return StoreConnections(connected(settings.read_timeout_s), connected(write_s), dialect)
    except (BaseError, OSError, ValueError) as error:
        # What Rust prints besides may quote the settings.
        said = str(error).split("\n\nDebug source", maxsplit=1)[0]
        raise BadStoreSettingsError(f"the settings {dialect.kind} make no connection: {said}") from None


def _client_options(settings: StoreSettings, timeout_s: float) -> "ClientConfig":
    options: ClientConfig = {
        "allow_http": urlsplit(settings.endpoint_url).scheme == "http",
        "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
        "timeout": timedelta(seconds=timeout_s),
    }
    if settings.ca_bundle is not None:
        options["root_certificate"] = read_authorities(settings.ca_bundle)
    return options
