"""The configuration of sources, as a model: one frozen value for each part of `source_databases.yaml`.

`des.sources.config_file` reads the file; `configs/source_databases.yaml` is the example with every key.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from des.files import METADATA_KEY, RESERVED_METADATA_KEYS
from des.naming.name import InvalidNameError, check_prefix

MIB: Final = 1 << 20
GIB: Final = 1 << 30

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name of a table, schema or column; it is quoted wherever it stands."""
SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
BucketName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")]
Bytes = Annotated[ByteSize, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
StatusValue: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=64)] | int
Scalar: TypeAlias = bool | int | float | datetime | date | str
Dialect: TypeAlias = Literal["postgresql", "mysql", "mariadb", "oracle", "mssql", "sqlite"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class PoolConfig(_Part):
    """Connections to one database, and how long anything may take."""

    size: PositiveInt = 4
    """Connections open at once."""
    wait_s: PositiveFloat = 10.0
    """Longest wait for a free one."""
    recycle_s: PositiveFloat = 1800.0
    """A connection is replaced when it is this old."""
    connect_timeout_s: PositiveFloat = 10.0
    statement_timeout_s: PositiveFloat = 60.0
    """Limit of one transaction."""


class DatabaseConfig(_Part):
    """How to reach one database."""

    dialect: Dialect
    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    name: str = ""
    """Database; for Oracle the service name."""
    path: Path | None = None
    """The file of a SQLite database."""
    user: str = ""
    password: SecretStr = SecretStr("")
    pool: PoolConfig = PoolConfig()
    driver_options: Mapping[str, str | int | float | bool] = Field(default_factory=dict)
    """Handed to the driver's connect as they are, such as `sslmode` (psycopg) or `ssl_ca` (PyMySQL)."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.dialect == "sqlite":
            if self.path is None or self.host or self.user or self.name:
                raise ValueError("sqlite takes `path`, and neither host, name nor user")
        elif self.path is not None or not self.host or not self.name or not self.user:
            raise ValueError(f"{self.dialect} takes `host`, `name` and `user`, and no `path`")
        return self


class ColumnsConfig(_Part):
    """Which column holds what. The first group is the owner's, the second is managed by DES."""

    id: Identifier
    """Unique, and ordered: rows are claimed in its order."""
    key: Identifier
    """Object key."""
    bucket: Identifier | None = None
    """Bucket; absent where all objects lie in `objects.bucket`."""
    etag: Identifier | None = None
    """ETag the object had when the row was made; the object is fetched only while it still has it."""
    size: Identifier | None = None
    """Length in bytes."""
    content_type: Identifier | None = None
    created_at: Identifier | None = None
    """When the row was made; needed for `mark.min_age_s`."""
    metadata: Mapping[str, Identifier] = Field(default_factory=dict)
    """Metadata key of the file -> column. A NULL gives no entry."""

    status: Identifier = "des_status"
    name: Identifier = "des_name"
    """DES name, given once, when the row is marked."""
    hash: Identifier = "des_hash"
    """The top 32 bits of SHA-256(name): the shard for any number of shard bits."""
    shard: Identifier | None = "des_shard"
    """Shard by which rows are claimed; null derives it from the name, at the price of reading more rows."""
    claim_token: Identifier = "des_claim"  # noqa: S105  a column's name
    claim_expires: Identifier = "des_claim_expires"
    """UTC milliseconds since 1970 by the source's own clock; of a marked row: not to be claimed before."""
    attempts: Identifier = "des_attempts"
    error: Identifier = "des_error"
    container: Identifier = "des_container"
    checksum: Identifier = "des_checksum"
    """SHA-256 of the file, lower-case hex."""

    @field_validator("metadata")
    @classmethod
    def _keys(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for key in value:
            if not METADATA_KEY.fullmatch(key) or key.startswith("_") or key in RESERVED_METADATA_KEYS:
                raise ValueError(
                    f"metadata key {key!r} is reserved, or not 1 to 63 of a-z, 0-9, '_', '.', '-'"
                )
        return value

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        written: dict[str, str] = {}
        for role in ("id", *OWNER_COLUMNS, *MANAGED_COLUMNS):
            column = getattr(self, role)
            if column is None:
                continue
            if column in written and (role in MANAGED_COLUMNS or written[column] in MANAGED_COLUMNS):
                raise ValueError(f"column {column!r} stands for both {written[column]} and {role}")
            written.setdefault(column, role)
        return self


OWNER_COLUMNS: Final = ("key", "bucket", "etag", "size", "content_type", "created_at")
"""Fields of `ColumnsConfig` that DES only reads."""
MANAGED_COLUMNS: Final = (
    "status",
    "name",
    "hash",
    "shard",
    "claim_token",
    "claim_expires",
    "attempts",
    "error",
    "container",
    "checksum",
)
"""Fields of `ColumnsConfig` that DES writes."""


class StatusValues(_Part):
    """What the status column holds in each part of a row's life."""

    pending: StatusValue | None = "pending"
    """null: a row whose status is NULL is pending."""
    marked: StatusValue = "marked"
    claimed: StatusValue = "claimed"
    packed: StatusValue = "packed"
    failed: StatusValue = "failed"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        values = [self.pending, self.marked, self.claimed, self.packed, self.failed]
        if len(set(values)) != len(values):
            raise ValueError(f"status values are {values}, expected five different ones")
        if len({type(value) for value in values if value is not None}) != 1:
            raise ValueError(f"status values are {values}, expected all text or all whole numbers")
        return self


class CompareFilter(_Part):
    """A column compared with one value."""

    column: Identifier
    op: Literal["eq", "ne", "lt", "le", "gt", "ge"]
    value: Scalar


class MemberFilter(_Part):
    """A column that holds one of some values, or none of them."""

    column: Identifier
    op: Literal["in", "not_in"]
    values: Annotated[Sequence[Scalar], Field(min_length=1, max_length=1000)]


class PrefixFilter(_Part):
    """A text column that starts with a text; `%` and `_` mean themselves."""

    column: Identifier
    op: Literal["prefix"]
    value: Annotated[str, StringConstraints(min_length=1)]


class NullFilter(_Part):
    """A column that is NULL, or is not."""

    column: Identifier
    op: Literal["is_null", "not_null"]


Filter = Annotated[CompareFilter | MemberFilter | PrefixFilter | NullFilter, Field(discriminator="op")]


class MarkConfig(_Part):
    """How rows get their names."""

    min_age_s: Seconds = 0
    """Rows younger than this, by the source's clock, are left alone; needs `columns.created_at`."""
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Rows in one transaction."""
    rate_per_s: PositiveFloat | None = None
    """Rows one marker marks in a second, at most; null for as fast as it goes."""


class ClaimConfig(_Part):
    """How packers take rows, and what becomes of rows that fail."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    timeout_s: Annotated[float, Field(ge=10)] = 3600
    """A claim that was not renewed for this long is anybody's. Packers renew at half of it."""
    attempts: PositiveInt = 5
    """Failures of a row after which it is `failed`."""
    backoff_first_s: Seconds = 30
    """Wait after a row's first failure; it doubles with each."""
    backoff_max_s: Seconds = 3600


class ObjectsConfig(_Part):
    """Where the objects are that the rows point at."""

    buckets: Annotated[Sequence[BucketName], Field(min_length=1)]
    """Buckets that rows may name; a row that names another one fails."""
    bucket: BucketName | None = None
    """Bucket of every row, where the table has no column for it."""
    endpoint: str = ""
    """URL of the S3 service; empty for AWS."""
    region: str = "us-east-1"
    access_key: SecretStr = SecretStr("")
    """Empty for the usual chain of the AWS SDK: environment, profile, role."""
    secret_key: SecretStr = SecretStr("")
    session_token: SecretStr = SecretStr("")
    addressing: Literal["path", "virtual", "auto"] = "auto"
    ca_bundle: Path | None = None
    """PEM file of the authorities that sign the service's certificate; None for the system's."""
    size_bytes_max: Bytes = ByteSize(16 * GIB)
    """A longer object fails its row."""
    timeout_s: PositiveFloat = 60
    """Longest silence of the service."""

    @field_validator("endpoint")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("expected https://host or http://host")
        return value

    @model_validator(mode="after")
    def _listed(self) -> Self:
        if self.bucket is not None and self.bucket not in self.buckets:
            raise ValueError(f"bucket {self.bucket!r} is not in `buckets`")
        if bool(self.access_key.get_secret_value()) != bool(self.secret_key.get_secret_value()):
            raise ValueError("access_key and secret_key stand together or not at all")
        return self


class SourceConfig(_Part):
    """One table of one database whose rows point at objects."""

    enabled: bool = True
    database: DatabaseConfig
    table: Identifier
    schema_name: Annotated[Identifier | None, Field(alias="schema")] = None
    columns: ColumnsConfig
    status_values: StatusValues = StatusValues()
    filters: Sequence[Filter] = ()
    """Rows that may be marked; all of them must hold."""
    name_prefix: str = "DES"
    mark: MarkConfig = MarkConfig()
    claim: ClaimConfig = ClaimConfig()
    objects: ObjectsConfig

    @field_validator("name_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        try:
            check_prefix(value)
        except InvalidNameError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.columns.bucket is None) == (self.objects.bucket is None):
            raise ValueError("expected either `columns.bucket` or `objects.bucket`, and not both")
        if self.mark.min_age_s and self.columns.created_at is None:
            raise ValueError("`mark.min_age_s` needs `columns.created_at`")
        return self


class MarkerConfig(_Part):
    """The process that marks rows."""

    idle_s: PositiveFloat = 5
    """Pause after a round that found nothing to mark."""
    backoff_max_s: PositiveFloat = 60
    """Longest pause of a source whose database does not answer."""


class PackerConfig(_Part):
    """The process that packs rows."""

    idle_s: PositiveFloat = 5
    """Pause after a round that found nothing to claim."""
    backoff_max_s: PositiveFloat = 60
    """Longest pause of a source whose database or objects do not answer."""
    fetches: Annotated[int, Field(ge=1, le=1024)] = 32
    """Objects fetched at once."""
    fetch_bytes: Annotated[ByteSize, Field(ge=16 * MIB)] = ByteSize(128 * MIB)
    """Bytes of them in memory at once."""
    claims: Annotated[int, Field(ge=100)] = 100_000
    """Rows claimed and not yet packed; the fullest shards are sealed when they are this many."""
    expired_check_s: PositiveFloat = 60
    """How often a shard is searched for claims that ran out."""


class SourcesConfig(_Part):
    """The whole file."""

    marker: MarkerConfig = MarkerConfig()
    packer: PackerConfig = PackerConfig()
    sources: Annotated[Mapping[SourceName, SourceConfig], Field(min_length=1)]

    @property
    def enabled(self) -> dict[str, SourceConfig]:
        """Return the sources that are worked on, by name."""
        return {name: source for name, source in self.sources.items() if source.enabled}
