"""How object stores are reached: what is the same for all, and what S3, Google and Azure want besides."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ByteSize, Field, SecretStr, model_validator

from des.config.group import GIB, KIB, MIB, Group


class StoreSettings(Group):
    """Where a store is, how long it may take, and how much memory its uploads may."""

    endpoint_url: str = ""
    """`https://host:port` of a store that is not at its usual place."""
    ca_bundle: Path | None = None
    """PEM file of the authorities that sign the store's certificate; None for the system's."""
    connect_timeout_s: Annotated[float, Field(gt=0)] = 5
    read_timeout_s: Annotated[float, Field(gt=0)] = 20
    """How long one attempt may hear nothing; for a ranged read, how long it may take."""
    deadline_s: Annotated[float, Field(gt=0)] = 60
    """How long a call may take with all its attempts, besides the time its bytes need."""
    upload_bytes_per_s_min: Annotated[ByteSize, Field(ge=KIB)] = ByteSize(MIB // 4)
    """An upload slower than this is given up."""
    attempts: Annotated[int, Field(ge=1, le=20)] = 4
    """How often one request is tried."""
    part_bytes: Annotated[ByteSize, Field(ge=5 * MIB, le=5 * GIB)] = ByteSize(8 * MIB)
    """Longer objects are written in parts of this size, at most 10,000."""


class S3Settings(StoreSettings):
    """How an S3 object store is reached. What is empty is looked for where every AWS tool looks.

    That is `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_PROFILE`, `AWS_REGION`,
    `AWS_ENDPOINT_URL_S3`, the files in `~/.aws`, and the roles of containers and instances.
    """

    region: str = ""
    """us-east-1 where nothing says otherwise."""
    access_key_id: SecretStr = SecretStr("")
    secret_access_key: SecretStr = SecretStr("")
    session_token: SecretStr = SecretStr("")
    profile: str = ""
    """Section of `~/.aws/config`."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """Bucket in the path or in the host name; auto: in the host name at AWS, else in the path."""
    checksum: Literal["crc32c", "md5", "when_required"] = "crc32c"
    """Sent with every byte written. md5 for stores that know no newer ones, when_required for none."""
    connections: Annotated[int, Field(ge=1, le=1024)] = 32
    """Calls that write or administer at once; ranged reads have connections of their own."""
    parts_at_once: Annotated[int, Field(ge=1, le=64)] = 8
    """Parts of all uploads on their way at once: what they hold in memory is this many and one each."""

    @model_validator(mode="after")
    def _keys_come_together(self) -> Self:
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise ValueError("expected access_key_id and secret_access_key together, found one of them")
        return self


class GcsSettings(StoreSettings):
    """How Google Cloud Storage is reached. What is empty is looked for where Google's own tools look.

    That is `GOOGLE_APPLICATION_CREDENTIALS`, `GOOGLE_SERVICE_ACCOUNT`, `GOOGLE_SERVICE_ACCOUNT_KEY`, the file
    of `gcloud auth application-default login`, and the metadata server of instances and clusters.
    """

    service_account: Path | None = None
    """JSON file of a service account's key."""
    service_account_key: SecretStr = SecretStr("")
    """That JSON itself."""
    token: SecretStr = SecretStr("")
    """A bearer token; it is not renewed."""

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        given = (self.service_account is not None, bool(self.service_account_key), bool(self.token))
        if sum(given) > 1:
            raise ValueError("expected one of service_account, service_account_key and token")
        return self


class AzureSettings(StoreSettings):
    """How Azure Blob Storage is reached. What is empty is looked for in the environment.

    That is `AZURE_STORAGE_ACCOUNT_NAME` and `_KEY`, `AZURE_STORAGE_SAS_TOKEN`, `AZURE_CLIENT_ID`,
    `AZURE_CLIENT_SECRET` and `AZURE_TENANT_ID`, `AZURE_FEDERATED_TOKEN_FILE` of a workload, and the managed
    identity of an instance.
    """

    account: str = ""
    """Name of the storage account."""
    account_key: SecretStr = SecretStr("")
    sas_token: SecretStr = SecretStr("")
    """A shared access signature, as the portal shows it."""

    @model_validator(mode="after")
    def _one_proof(self) -> Self:
        if bool(self.account_key) and bool(self.sas_token):
            raise ValueError("expected one of account_key and sas_token")
        return self
