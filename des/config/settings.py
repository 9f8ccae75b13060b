"""Every setting of a node, in one frozen model: file, then environment, then flags."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ByteSize, Field, PositiveInt, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from des.config.group import GIB, KIB, MIB, Bytes, Group, Seconds
from des.config.object_stores import AzureSettings, GcsSettings, S3Settings
from des.config.observing import HealthSettings, TracingSettings

TokenAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class LogSettings(Group):
    """The ingest log."""

    segment_bytes: Bytes = ByteSize(64 * MIB)
    """Length of one segment file, reserved ahead."""
    group_bytes: Bytes = ByteSize(4 * MIB)
    """A commit group closes at this many bytes even when more is waiting."""
    budget_bytes: Bytes = ByteSize(4 * GIB)
    """Disk the log may use; the oldest files are sealed when it would grow past three quarters of it."""
    records_max: Annotated[int, Field(ge=10_000)] = 1_000_000
    """Records the log may hold, about 0.6 KiB of memory each; limits the log as `budget_bytes` does."""
    reserve_free_bytes: Bytes = ByteSize(256 * MIB)
    """Below this much free disk writes are refused, so that sealing and the catalog keep working."""
    reclaim_delay_s: Seconds = 900
    """A segment is removed no sooner than this after its last file was recorded as stored."""


class SealSettings(Group):
    """When open files become containers."""

    size_bytes: Bytes = ByteSize(256 * MIB)
    """A shard and day with this many open bytes is sealed."""
    entries: PositiveInt = 200_000
    """... or with this many open files."""
    age_s: Seconds = 6 * 3600
    """... or whose oldest open file is this old."""
    day_grace_s: Seconds = 600
    """... or whose UTC day ended this long ago."""
    useful_bytes: Bytes = ByteSize(8 * MIB)
    """Quiet neighbour shards share one container until it is about this large."""
    check_interval_s: Seconds = 1
    """How often the rules are looked at."""
    retry_s: Seconds = 5
    """How long a seal that failed waits before it is tried again."""
    checkpoint_s: Seconds = 10
    """How often the catalog is told how much each shard has open, if it changed; 0 for never."""


class GcSettings(Group):
    """Collection of objects that are nobody's any more (docs/upkeep.md)."""

    every_s: Seconds = 0
    """How often a running node collects for the shards it holds; 0 leaves it to `des gc`."""
    grace_s: Seconds = 24 * 3600
    """An object stays this long after it was said to be nobody's: longer than any read takes."""
    unnamed_s: Seconds = 24 * 3600
    """Time between the first sighting of an object that the catalog does not know and its end."""
    objects_max: PositiveInt = 1000
    """A run that would delete more deletes nothing."""
    bytes_max: Bytes = ByteSize(GIB)
    """... or more than this, or a thousandth of all bytes where that is more."""


class CatalogSettings(Group):
    """Connections to the catalog's database, and how long each may take."""

    connections_max: PositiveInt = 8
    """Connections of this node, at most."""
    connect_s: Annotated[float, Field(gt=0)] = 5
    statement_s: Annotated[float, Field(gt=0)] = 10
    """One statement, and how long a transaction may do nothing: in a cluster no longer than a third of the
    time to live, so that a node that freezes in one holds up no other's heartbeats. PostgreSQL only."""
    lock_s: Annotated[float, Field(gt=0)] = 5
    """One wait for a lock of another transaction."""
    transaction_s: Annotated[float, Field(gt=0)] = 15
    """A whole transaction, with its waits and repetitions."""


class StoredSettings(Group):
    """Durability `stored`: files go to the object store before any seal, many in one object."""

    any_store: bool = False
    """Serve it although the object store lies on this node's own disk: for network folders, and tests."""
    object_bytes: Bytes = ByteSize(8 * MIB)
    """An object takes up to this many bytes of what waits; a longer file goes alone."""
    uploads: PositiveInt = 2
    """Objects under way at once. More answer sooner and make more, smaller objects."""
    segments_max: PositiveInt = 2000
    """The oldest files are sealed when three quarters of so many objects hold files that are in no container:
    whoever takes over a lost node reads them all."""
    wait_s: Seconds = 30
    """How long a put waits before it is told that its file is on this node's disk only."""
    retry_s: Seconds = 1
    """How long an object that was not taken waits before it is sent again."""


class LimitSettings(Group):
    """What one client can ask for."""

    file_bytes: Bytes = ByteSize(16 * GIB)
    metadata_bytes: Bytes = ByteSize(8 * KIB)
    metadata_entries: PositiveInt = 64
    content_type_bytes: PositiveInt = 255
    names_per_assign: PositiveInt = 1000
    batch_items: PositiveInt = 10_000
    page_size: PositiveInt = 1000
    chunk_bytes: Annotated[ByteSize, Field(ge=64 * KIB, le=2 * MIB)] = ByteSize(2 * MIB)
    """Data in one message, at most; the message itself may be a little larger."""
    preferred_chunk_bytes: Annotated[ByteSize, Field(ge=4 * KIB, le=2 * MIB)] = ByteSize(MIB)
    bytes_in_flight: Bytes = ByteSize(128 * MIB)
    """Upload bytes held in memory over all calls."""
    concurrent_calls: PositiveInt = 2000
    stall_s: Seconds = 60
    """A sender silent for this long loses its stream."""
    bytes_per_s_min: Annotated[ByteSize, Field(ge=0)] = ByteSize(KIB)
    """So does one that owes the rest of a file and was slower for `stall_s` in all; 0 for any pace."""
    uploads: PositiveInt = 1000
    """Resumable uploads that may be unfinished at once."""
    upload_ttl_s: Annotated[float, Field(ge=60)] = 86_400
    """How long an upload may take from its start to its end."""
    watch_heartbeat_s: Annotated[float, Field(ge=1)] = 10
    """Who watches shards hears something at least this often."""
    principal_calls_per_s: Seconds = 0
    """Calls of one principal, on average; 0 for any number. Twice as many at once after a pause."""
    principal_bytes_in_flight: Bytes = ByteSize(64 * MIB)
    """Of `bytes_in_flight`, what one principal may hold, where callers are told apart."""
    admission_wait_s: Seconds = 10
    """How long a write waits for room before it is told that the server is busy."""


class RedisSettings(Group):
    """The Redis in which nodes share pages of indexes, where `index_cache` is redis."""

    url: SecretStr = SecretStr("")
    """`redis://user:password@host:6379/0`, `rediss://...` with TLS, `unix:///socket`."""
    ttl_s: PositiveInt = 24 * 3600
    """How long a page is kept. Pages never change; this bounds what deleted containers leave."""
    budget_s: Annotated[float, Field(gt=0, le=5)] = 0.05
    """Longest wait for one answer. Five failures in a row, and Redis is left alone for five seconds."""
    connections: Annotated[int, Field(ge=1, le=1024)] = 16


class ClusterSettings(Group):
    """Several nodes over one catalog."""

    enabled: bool = False
    """Share the store with other nodes, over a catalog on PostgreSQL."""
    advertise: str = ""
    """host:port at which other nodes reach this one; empty for the address of `listen`."""
    capacity: PositiveInt = 1
    """This node's share of the shards, relative to the other nodes'."""
    ttl_s: Annotated[float, Field(ge=0.5)] = 10
    """A node that was silent for this long loses its shards to the others."""
    cache_s: Seconds = 0.5
    """How long what is known of deletes in other nodes' shards is used before it is read again; a delete is
    answered so much later."""
    forward_wait_s: Seconds = 3
    """How long a call waits for a shard that is between two owners before it is told to come back."""
    key: SecretStr = SecretStr("")
    """What nodes prove by that they are nodes: 32 characters or more, the same on all. Needed where callers
    are told apart."""
    key_file: Path | None = None
    """File with that key instead. Of several, one a line, the first is shown and any is accepted."""
    ca: Path | None = None
    """PEM file of the authorities of the nodes' certificates, with TLS; None for those of the system."""
    tls_name: str = ""
    """Name that the nodes' certificates have in common; empty where each has its address."""

    @model_validator(mode="after")
    def _one_place_for_the_key(self) -> Self:
        if self.key.get_secret_value() and self.key_file is not None:
            raise ValueError("expected the cluster's key in cluster.key or in cluster.key_file, found both")
        return self


class TlsSettings(Group):
    """Certificates of both ports; their files are read again when they change."""

    cert: Path | None = None
    """PEM file of the server's certificate and those between it and its authority."""
    key: Path | None = None
    """PEM file of its private key."""
    client_ca: Path | None = None
    """PEM file of the authorities whose certificates every client of the gRPC port must have."""

    @model_validator(mode="after")
    def _come_together(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected cert and key together, found one of them")
        if self.client_ca is not None and self.cert is None:
            raise ValueError("expected cert and key with client_ca")
        return self


class JwtSettings(Group):
    """Whose bearer tokens are good here."""

    jwks: str = ""
    """File or https URL of the issuer's keys; empty for no tokens."""
    issuer: str = ""
    """What a token's `iss` must be."""
    audience: str = ""
    """What must be in a token's `aud`."""
    algorithms: Annotated[tuple[TokenAlgorithm, ...], Field(min_length=1)] = ("RS256", "ES256", "EdDSA")
    """Ways of signing that are accepted; all have a public key."""
    leeway_s: Annotated[float, Field(ge=0, le=30)] = 10
    """How far the issuer's clock may be from ours."""

    @model_validator(mode="after")
    def _nothing_is_left_open(self) -> Self:
        if self.jwks and not (self.issuer and self.audience):
            raise ValueError("expected issuer and audience with jwks")
        return self


class GrantSettings(Group):
    """What one principal may do with the names that begin with a prefix."""

    principal: Annotated[str, Field(pattern=r"^(jwt|cert):.+$")]
    """`jwt:SUBJECT` of a token, or `cert:NAME` of a client certificate's alternative names. API keys carry
    their grants themselves."""
    verbs: Annotated[
        tuple[Literal["assign", "read", "write", "delete", "list", "shards", "admin"], ...],
        Field(min_length=1),
    ]
    prefix: str = ""
    """Empty for every name."""


class AuthSettings(Group):
    """Who may use the server. With none of `api_keys`, `mtls` and `jwt.jwks` everyone is served."""

    api_keys: bool = False
    """Accept the keys that `des keys create` makes."""
    api_keys_file: Path | None = None
    """Where their hashes are kept; None for `api-keys.json` in the data folder."""
    mtls: bool = False
    """Accept client certificates of `tls.client_ca`."""
    grants: tuple[GrantSettings, ...] = ()
    """What holders of tokens and certificates may do. Nothing is granted that is not written."""
    reflection: bool = False
    """Describe the service to everyone who asks although callers are told apart."""
    health_detail: bool = False
    """Tell everyone over HTTP what each health check found although callers are told apart."""
    audit_file: Path | None = None
    """Where each change and each refusal is written down, as JSON lines; None for nowhere."""


class Settings(BaseSettings):
    """All settings of a node.

    Sources, later ones win: defaults, the YAML file named by `DES_CONFIG` or `--config`, environment
    variables `DES_<NAME>` (`DES_LOG__SEGMENT_BYTES` for a group), flags.
    """

    model_config = SettingsConfigDict(
        env_prefix="DES_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Path("des-data")
    """Folder of the ingest log, the embedded catalog and, by default, the objects."""
    listen: str = "127.0.0.1:7420"
    """Address of the gRPC service; port 0 lets the system choose."""
    http_listen: str = "127.0.0.1:7421"
    """Address of health and metrics over HTTP; empty for none."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that serve `listen` together, each a node of its own; more than one need PostgreSQL."""
    node_id: Annotated[int, Field(ge=0, le=255)] = 0
    """Node id in assigned names."""
    name_prefix: str = "DES"
    shard_bits: Annotated[int, Field(ge=0, le=16)] = 8
    """A store has `2**shard_bits` shards; of a cluster, when it is new: later `des shard-bits` says it."""
    wrap_bits: Annotated[int, Field(ge=27, le=32)] = 32
    object_prefix: str = ""
    """Put before every object key."""
    object_store: str = ""
    """`s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///folder`; empty for the
    folder `object_dir`."""
    object_dir: Path | None = None
    """Folder of the local object store; None for `objects` in the data folder."""
    catalog_url: Annotated[str, Field(repr=False)] = ""
    """SQLAlchemy URL; empty for `catalog.sqlite` in the data folder."""
    layout: Literal["framed", "v1"] = "framed"
    """Container layout (docs/format.md)."""
    compression: Literal["auto", "off"] = "auto"
    """Whether files in the layout `framed` are compressed where it pays; `v1` never is."""
    big_file_bytes: Annotated[ByteSize, Field(ge=MIB, le=64 * MIB)] = ByteSize(16 * MIB)
    """A longer file lies outside its container, under `_bigFiles/`."""
    durability: Literal["local", "stored"] = "local"
    """What a put that does not say waits for: this node's disk, or the object store and the catalog."""
    index_cache_bytes: Bytes = ByteSize(256 * MIB)
    """Memory for the indexes of sealed containers."""
    index_cache: Literal["memory", "redis"] = "memory"
    """Where pages of indexes are kept: here only, or in Redis too, which nodes share."""
    drain_s: Seconds = 30
    """How long calls in flight may take after SIGTERM."""
    drain_notice_s: Seconds = 0
    """How long readiness is off before new calls are refused, so that balancers notice."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    log: LogSettings = LogSettings()
    seal: SealSettings = SealSettings()
    gc: GcSettings = GcSettings()
    stored: StoredSettings = StoredSettings()
    catalog: CatalogSettings = CatalogSettings()
    health: HealthSettings = HealthSettings()
    tracing: TracingSettings = TracingSettings()
    limits: LimitSettings = LimitSettings()
    tls: TlsSettings = TlsSettings()
    auth: AuthSettings = AuthSettings()
    jwt: JwtSettings = JwtSettings()
    s3: S3Settings = S3Settings()
    gcs: GcsSettings = GcsSettings()
    azure: AzureSettings = AzureSettings()
    redis: RedisSettings = RedisSettings()

    @model_validator(mode="after")
    def _log_has_room(self) -> Self:
        # With one segment there is no old end to give up while the new one is written.
        least = 2 * int(self.log.segment_bytes)
        if self.log.budget_bytes < least:
            raise ValueError(
                f"log.budget_bytes is {int(self.log.budget_bytes)}, expected room for two segments, at least "
                f"{least} (twice log.segment_bytes)"
            )
        return self

    @model_validator(mode="after")
    def _redis_has_a_place(self) -> Self:
        if self.index_cache == "redis" and not self.redis.url.get_secret_value():
            raise ValueError("index_cache is redis, expected a Redis in redis.url")
        return self

    cluster: ClusterSettings = ClusterSettings()

    @property
    def keeps_objects_here(self) -> bool:
        """Whether the objects lie in a folder, most likely on the disk that has the data folder."""
        return not self.object_store or self.object_store.startswith("file:")

    @property
    def in_cluster(self) -> bool:
        """Whether this node shares the store with others."""
        return self.cluster.enabled

    @property
    def authenticates(self) -> bool:
        """Whether callers are told apart."""
        return self.auth.api_keys or self.auth.mtls or bool(self.jwt.jwks)

    @model_validator(mode="after")
    def _certificates_are_asked_for(self) -> Self:
        if self.auth.mtls and self.tls.client_ca is None:
            raise ValueError("auth.mtls is on, expected the clients' authorities in tls.client_ca")
        return self

    @model_validator(mode="after")
    def _nodes_can_reach_each_other(self) -> Self:
        # Who could pass for a node could pass for any of its callers.
        has_key = bool(self.cluster.key.get_secret_value()) or self.cluster.key_file is not None
        if self.in_cluster and self.authenticates and not has_key:
            raise ValueError(
                "callers are told apart, so nodes must be too: expected a key that they share in cluster.key "
                "or cluster.key_file"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  no .env files: nothing is read unasked
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, strongest first."""
        return init_settings, env_settings, file_secret_settings, YamlConfigSettingsSource(settings_cls)


def load_settings(config: Path | None = None, **flags: Any) -> Settings:
    """Read the settings once: `config` (a YAML file), environment, then `flags` that are not None.

    Raises:
        FileNotFoundError: `config` does not exist.
        pydantic.ValidationError: a value is out of its range, or a key is unknown.
    """
    if config is not None and not config.is_file():
        raise FileNotFoundError(f"no configuration file at {config}")

    class Loaded(Settings):
        model_config = SettingsConfigDict(yaml_file=config)

    given = {key: value for key, value in flags.items() if value is not None}
    return Loaded(**given)
