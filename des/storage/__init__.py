"""Where bytes rest: the node's disk, and object stores behind one Protocol."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from des.storage.by_url import open_store
    from des.storage.s3 import S3StorageBackend

__all__ = ["S3StorageBackend", "open_store"]


def __getattr__(name: str) -> Any:
    """Import what needs settings, or the extra `s3`, where it is used: readers of archives need neither."""
    if name == "S3StorageBackend":
        from des.storage.s3 import S3StorageBackend  # noqa: PLC0415  optional dependency

        return S3StorageBackend
    if name == "open_store":
        from des.storage.by_url import open_store  # noqa: PLC0415  settings

        return open_store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
