"""What S3's answers mean: missing, forbidden, changed, taken, full, damaged and unavailable are told apart.

The two libraries say the same in different words: botocore gives a code and a status, obstore a class and a
message that quotes the store's answer. Nothing is taken for absent but what the store said is absent.
"""

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from des.errors import DesError
from des.storage.object_store import (
    NoSuchBucketError,
    NoSuchObjectError,
    ObjectChangedError,
    ObjectDamagedError,
    ObjectExistsError,
    ObjectStoreForbiddenError,
    ObjectStoreFullError,
    ObjectStoreRefusedError,
    ObjectStoreUnavailableError,
)

T = TypeVar("T")

_NO_BUCKET: Final = frozenset({"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"})
_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchVersion"})
_CHANGED: Final = frozenset({"412", "PreconditionFailed"})
_CONFLICT: Final = frozenset({"409", "ConditionalRequestConflict", "OperationAborted"})
_UNSATISFIABLE: Final = frozenset({"416", "InvalidRange", "RequestedRangeNotSatisfiable"})
_FORBIDDEN: Final = frozenset(
    {
        "401", "403", "AccessDenied", "AllAccessDisabled", "ExpiredToken", "Forbidden",
        "InvalidAccessKeyId", "InvalidToken", "RequestExpired", "RequestTimeTooSkewed",
        "SignatureDoesNotMatch", "TokenRefreshRequired", "Unauthorized",
    }
)  # fmt: skip
_FULL: Final = frozenset({"507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})
_BUSY: Final = frozenset({"429", "RequestTimeout", "SlowDown", "TooManyRequests", "Throttling"})
"""Unavailable under a status that says otherwise."""
_MANGLED: Final = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InvalidDigest",
        "InvalidPart",
        "InvalidPartOrder",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
"""Bytes changed on their way to the store, or its answer on the way here: sending them again may help."""
_STATUS: Final = re.compile(r"status code: (\d{3})|\(code: (\d{3})\)")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_UNKNOWN_CALLER: Final = "token request"
"""Of whoever gives out credentials, whose answer says nothing about objects."""
_SHORTER: Final = re.compile(r"Wanted range starting at|CONTENT_RANGE header: \"bytes 0--1/0\"")
"""A range of nothing, and how azurite answers for an object of no bytes."""
_TEXT_MAX: Final = 300


class WriteConflictError(ObjectStoreUnavailableError):
    """Another conditional write of the same key was under way; nothing was written, a repeat will tell."""


class NoSuchUploadError(ObjectStoreUnavailableError):
    """The store does not know the multipart upload: it was completed, aborted, or never begun."""


def meaning_of(key: str, code: str, status: int, text: str) -> DesError:
    """Return the error that an answer stands for.

    Args:
        key: of the object.
        code: S3's own, such as "NoSuchKey"; a response without a body has its status here.
        status: of HTTP; 0 where it is not known.
        text: what to tell a person.
    """
    said = f"{key!r}: {text[:_TEXT_MAX]}"
    names = {code, str(status)}
    if code in _NO_BUCKET:
        return NoSuchBucketError(f"the bucket is not there, asked for {said}", key=key)
    if code == "NoSuchUpload":
        return NoSuchUploadError(f"the upload is not there: {said}", key=key)
    if names & _BUSY or code in _MANGLED:
        return ObjectStoreUnavailableError(f"the store did not take {said}", key=key)
    if names & _FULL:
        return ObjectStoreFullError(f"the store has no room for {said}", key=key)
    if names & _FORBIDDEN:
        return ObjectStoreForbiddenError(f"the store forbids {said}", key=key)
    if names & _MISSING:
        return NoSuchObjectError(f"no object {key!r}", key=key)
    if names & _CHANGED:
        return ObjectChangedError(f"{key!r} is not the object it was", key=key)
    if names & _CONFLICT:
        return WriteConflictError(f"another write is under way of {said}", key=key)
    if names & _UNSATISFIABLE:
        return ObjectDamagedError(f"{key!r} is shorter than what is asked of it", key=key)
    if status == 501 or 400 <= status < 500:
        return ObjectStoreRefusedError(f"the store refuses {said}", key=key, code=code)
    return ObjectStoreUnavailableError(f"the store cannot serve {said}", key=key)


def taken(error: DesError, key: str) -> DesError:
    """Return what a failed condition means where the condition was that the key is free."""
    if isinstance(error, ObjectChangedError):
        return ObjectExistsError(f"object {key!r} exists", key=key)
    return error


def of_obstore(key: str, error: BaseException) -> DesError:
    """Translate an exception of obstore."""
    from obstore import exceptions  # noqa: PLC0415  optional dependency

    # The rest repeats it as Rust prints it.
    text = str(error).split("\n\nDebug source", maxsplit=1)[0]
    status = _STATUS.search(text)
    code = _CODE.search(text)
    said = " ".join(text.split())
    absent = isinstance(error, FileNotFoundError | exceptions.NotFoundError)
    if isinstance(error, exceptions.AlreadyExistsError):
        return ObjectExistsError(f"object {key!r} exists", key=key)
    if _UNKNOWN_CALLER in text and not absent:
        if status is not None and status[0].endswith(("400", "401", "403", "404")):
            return ObjectStoreForbiddenError(
                f"no credentials for the object store: {said[:_TEXT_MAX]}", key=key
            )
        return ObjectStoreUnavailableError(f"no credentials for {key!r} now: {said[:_TEXT_MAX]}", key=key)
    if _SHORTER.search(text):
        return ObjectDamagedError(f"{key!r} is shorter than what is asked of it", key=key)
    if code is not None or status is not None:
        number = int(status[1] or status[2]) if status else 0
        return meaning_of(key, code[1] if code else "", number, said)
    match error:
        case FileNotFoundError() | exceptions.NotFoundError():
            return NoSuchObjectError(f"no object {key!r}", key=key)
        case exceptions.PreconditionError() | exceptions.NotModifiedError():
            return ObjectChangedError(f"{key!r} is not the object it was", key=key)
        case PermissionError() | exceptions.PermissionDeniedError() | exceptions.UnauthenticatedError():
            return ObjectStoreForbiddenError(f"the store forbids {key!r}: {said[:_TEXT_MAX]}", key=key)
        case exceptions.NotSupportedError() | exceptions.InvalidPathError():
            return ObjectStoreRefusedError(f"the store refuses {key!r}: {said[:_TEXT_MAX]}", key=key)
        case _:
            return ObjectStoreUnavailableError(f"{key!r} cannot be read now: {said[:_TEXT_MAX]}", key=key)


class Boto3Errors:
    """Runs calls of a boto3 client and translates what they raise. boto3 is imported when one is made."""

    def __init__(self) -> None:
        from botocore import exceptions as found  # noqa: PLC0415  optional dependency
        from botocore.parsers import ResponseParserError  # noqa: PLC0415  optional dependency

        self._answered: type[Any] = found.ClientError
        self._without_credentials = (found.NoCredentialsError, found.PartialCredentialsError)
        self._failures = (found.BotoCoreError, found.HTTPClientError, ResponseParserError, OSError)

    def translated(self, key: str, call: Callable[[], T]) -> T:
        """Return what `call` returns.

        Raises:
            DesError: the translation of what it raised.
        """
        try:
            return call()
        except self._answered as error:
            response = error.response
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = str(response.get("Error", {}).get("Code", ""))
            raise meaning_of(key, code, int(status), str(error)) from error
        except self._without_credentials as error:
            raise ObjectStoreForbiddenError(
                f"no credentials for the object store: {error}", key=key
            ) from error
        except self._failures as error:
            raise ObjectStoreUnavailableError(
                f"no answer of the store about {key!r}: {error}", key=key
            ) from error
