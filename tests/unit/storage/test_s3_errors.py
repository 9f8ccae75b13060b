"""Every answer of S3 is one thing and not another: absent is only what the store says is absent."""

import pytest
from botocore import exceptions
from obstore.exceptions import AlreadyExistsError, GenericError

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
from des.storage.s3_errors import (
    Boto3Errors,
    NoSuchUploadError,
    WriteConflictError,
    meaning_of,
    of_obstore,
    taken,
)

MEANINGS = [
    ("NoSuchKey", 404, NoSuchObjectError),
    ("404", 404, NoSuchObjectError),
    ("NoSuchBucket", 404, NoSuchBucketError),
    ("NoSuchUpload", 404, NoSuchUploadError),
    ("403", 403, ObjectStoreForbiddenError),
    ("AccessDenied", 403, ObjectStoreForbiddenError),
    ("RequestTimeTooSkewed", 403, ObjectStoreForbiddenError),
    ("SignatureDoesNotMatch", 403, ObjectStoreForbiddenError),
    ("ExpiredToken", 400, ObjectStoreForbiddenError),
    ("PreconditionFailed", 412, ObjectChangedError),
    ("ConditionalRequestConflict", 409, WriteConflictError),
    ("InvalidRange", 416, ObjectDamagedError),
    ("BadDigest", 400, ObjectStoreUnavailableError),
    ("RequestTimeout", 400, ObjectStoreUnavailableError),
    ("SlowDown", 503, ObjectStoreUnavailableError),
    ("TooManyRequests", 429, ObjectStoreUnavailableError),
    ("InternalError", 500, ObjectStoreUnavailableError),
    ("InternalError", 200, ObjectStoreUnavailableError),
    ("XMinioStorageFull", 507, ObjectStoreFullError),
    ("NotImplemented", 501, ObjectStoreRefusedError),
    ("InvalidArgument", 400, ObjectStoreRefusedError),
    ("", 0, ObjectStoreUnavailableError),
]


@pytest.mark.parametrize(("code", "status", "kind"), MEANINGS)
def test_each_answer_has_one_meaning(code: str, status: int, kind: type) -> None:
    error = meaning_of("day/key", code, status, "said")
    assert type(error) is kind
    assert "day/key" in str(error)


def test_only_what_may_pass_is_retryable() -> None:
    for code, status, kind in MEANINGS:
        expected = kind not in {
            NoSuchObjectError,
            NoSuchBucketError,
            ObjectStoreForbiddenError,
            ObjectStoreRefusedError,
            ObjectDamagedError,
        }
        assert meaning_of("key", code, status, "").retryable is expected, code


def test_a_failed_condition_of_a_create_says_that_the_key_is_taken() -> None:
    assert type(taken(ObjectChangedError("x"), "key")) is ObjectExistsError
    other = ObjectStoreUnavailableError("x")
    assert taken(other, "key") is other


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        ("ConnectTimeoutError", ObjectStoreUnavailableError),
        ("ReadTimeoutError", ObjectStoreUnavailableError),
        ("EndpointConnectionError", ObjectStoreUnavailableError),
        ("ConnectionClosedError", ObjectStoreUnavailableError),
        ("ResponseStreamingError", ObjectStoreUnavailableError),
        ("NoCredentialsError", ObjectStoreForbiddenError),
    ],
)
def test_no_answer_is_unavailable_and_no_credentials_are_forbidden(raised: str, kind: type) -> None:
    def call() -> None:
        raise getattr(exceptions, raised)(endpoint_url="http://x", error="e")

    with pytest.raises(kind):
        Boto3Errors().translated("key", call)


def test_a_taken_key_is_taken_whatever_the_status() -> None:
    for status in ("409 Conflict", "412 Precondition Failed"):
        error = AlreadyExistsError(SAID.format(status, "BlobAlreadyExists"))
        assert type(of_obstore("key", error)) is ObjectExistsError


def test_a_mistake_of_ours_is_not_an_outage() -> None:
    with pytest.raises(TypeError):
        Boto3Errors().translated("key", lambda: None + 1)  # type: ignore[operator]


SAID = (
    "Error performing GET http://127.0.0.1:1/b/k in 3ms - Server returned non-2xx status code: {}: "
    "<Error><Code>{}</Code></Error>\n\nDebug source:\nGeneric"
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (SAID.format("404 Not Found", "NoSuchKey"), NoSuchObjectError),
        (SAID.format("404 Not Found", "NoSuchBucket"), NoSuchBucketError),
        (SAID.format("403 Forbidden", "AccessDenied"), ObjectStoreForbiddenError),
        (SAID.format("412 Precondition Failed", "PreconditionFailed"), ObjectChangedError),
        (SAID.format("416 Range Not Satisfiable", "InvalidRange"), ObjectDamagedError),
        (SAID.format("503 Service Unavailable", "SlowDown"), ObjectStoreUnavailableError),
        ("Generic S3 error: error sending request", ObjectStoreUnavailableError),
        (SAID.format("404 Not Found", "ContainerNotFound"), NoSuchBucketError),
        (SAID.format("404 Not Found", "BlobNotFound"), NoSuchObjectError),
        (SAID.format("412 Precondition Failed", "ConditionNotMet"), ObjectChangedError),
        (SAID.format("503 Service Unavailable", "ServerBusy"), ObjectStoreUnavailableError),
        ("Bulk delete request failed for key k: no permission. (code: 403)", ObjectStoreForbiddenError),
        ("Generic X error: Wanted range starting at 5, but object was only 5 bytes", ObjectDamagedError),
        # Who gives out credentials says nothing about objects.
        (f"Error performing token request: {SAID.format('404 Not Found', '')}", ObjectStoreForbiddenError),
        (f"Error performing token request: {SAID.format('503 Busy', '')}", ObjectStoreUnavailableError),
        ("Error performing token request: error sending request", ObjectStoreUnavailableError),
        ("Generic S3 error: Received non-partial response when range requested", ObjectStoreUnavailableError),
    ],
)
def test_obstore_says_the_same_in_other_words(text: str, kind: type) -> None:
    error = of_obstore("key", GenericError(text))
    assert type(error) is kind
    assert "Debug source" not in str(error)
