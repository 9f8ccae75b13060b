"""What the object of a container says of itself beside its bytes, so that a catalog can be rebuilt from it.

A store that loses object metadata loses nothing that is not in the container too, but for the epoch and
the node.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from des.db.catalog import ContainerRow, ShardRun
from des.errors import CorruptError

CONTAINER_ID: Final = "des-container-id"
SHA256: Final = "des-sha256"
EPOCH: Final = "des-epoch"
SHARDS: Final = "des-shards"
NODE: Final = "des-node"
NAMES_MS: Final = "des-names-ms"
DATA_BYTES: Final = "des-data-bytes"


class BadObjectMetadataError(CorruptError):
    """An object's metadata is not what a container's is."""


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """What the metadata of a container's object says."""

    container_id: str
    sha256: str
    """As in the catalog; empty where the upload began before it was known."""
    epoch: int
    run: ShardRun
    node: str
    name_ms_first: int
    name_ms_last: int
    data_bytes: int


def encode_metadata(row: ContainerRow | ContainerFacts) -> dict[str, str]:
    """Return the metadata that a container is uploaded with; without a SHA-256 where it is not known yet."""
    return {
        CONTAINER_ID: row.container_id,
        **({SHA256: row.sha256} if row.sha256 else {}),
        EPOCH: str(row.epoch),
        SHARDS: f"{row.run.first}+{row.run.span}/{row.run.bits}",
        NODE: row.node,
        NAMES_MS: f"{row.name_ms_first}-{row.name_ms_last}",
        DATA_BYTES: str(row.data_bytes),
    }


def decode_metadata(metadata: Mapping[str, str]) -> ContainerFacts:
    """Read it back.

    Raises:
        BadObjectMetadataError: a part is missing or malformed.
    """
    try:
        first, _, run = metadata[SHARDS].partition("+")
        span, _, bits = run.partition("/")
        name_first, _, name_last = metadata[NAMES_MS].partition("-")
        return ContainerFacts(
            container_id=metadata[CONTAINER_ID],
            sha256=metadata.get(SHA256, ""),
            epoch=int(metadata[EPOCH]),
            run=ShardRun(int(first), int(span), int(bits)),
            node=metadata[NODE],
            name_ms_first=int(name_first),
            name_ms_last=int(name_last),
            data_bytes=int(metadata[DATA_BYTES]),
        )
    except (KeyError, ValueError) as error:
        raise BadObjectMetadataError(
            f"object metadata {dict(metadata)!r} is not a container's: {error!r}"
        ) from error
