"""What a write must keep to before a byte of it is taken, and what it is told when it does not."""

from typing import Final

from des.config import LimitSettings
from des.errors import AlreadyExistsError, InvalidInputError
from des.files import FileSpec, check_metadata

REQUEST_ID_LENGTH_MAX: Final = 128


class FileTooLargeError(InvalidInputError):
    """More bytes than a file may have."""

    reason = "FILE_TOO_LARGE"


class UploadSizeMismatchError(InvalidInputError):
    """The stream held more or fewer bytes than were declared."""

    reason = "UPLOAD_SIZE_MISMATCH"


class UploadChecksumMismatchError(InvalidInputError):
    """The bytes that arrived are not those the client summed."""

    reason = "UPLOAD_CHECKSUM_MISMATCH"


class NameConflictError(AlreadyExistsError):
    """The name has other content."""


def check_spec(spec: FileSpec, limits: LimitSettings) -> None:
    """Refuse a specification that breaks a rule. The name itself is checked where it is parsed.

    Raises:
        InvalidInputError: which field, what it is and what it may be.
    """
    if spec.size is not None:
        check_size(spec.size, limits)
    if len(spec.content_type) > limits.content_type_bytes or not spec.content_type.isprintable():
        raise InvalidInputError(
            f"content type {spec.content_type[:300]!r} is not up to {limits.content_type_bytes} "
            "printable characters",
            field="spec.content_type",
        )
    if len(spec.request_id) > REQUEST_ID_LENGTH_MAX or not spec.request_id.isprintable():
        raise InvalidInputError(
            f"request id {spec.request_id[:200]!r} is not up to {REQUEST_ID_LENGTH_MAX} printable characters",
            field="spec.request_id",
        )
    if spec.name and spec.prefix:
        raise InvalidInputError(
            f"both name {spec.name!r} and prefix {spec.prefix!r} are given; a prefix is for assigned names",
            field="spec.prefix",
        )
    if spec.metadata:
        check_metadata(spec.metadata, entries_max=limits.metadata_entries, bytes_max=limits.metadata_bytes)


def check_size(size: int, limits: LimitSettings) -> None:
    """Refuse a size, in bytes, that no file may have.

    Raises:
        InvalidInputError: negative.
        FileTooLargeError: above the limit.
    """
    if size < 0:
        raise InvalidInputError(f"declared size is {size}, expected 0 or more", field="spec.size_bytes")
    if size > limits.file_bytes:
        raise FileTooLargeError(
            f"file has {size} bytes, at most {int(limits.file_bytes)} are allowed",
            size=size,
            max_size=int(limits.file_bytes),
        )
