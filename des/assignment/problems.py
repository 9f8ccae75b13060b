"""Errors over HTTP, as problem documents (RFC 9457)."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from des.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptError,
    CredentialsError,
    DeadlineError,
    DeniedError,
    DesError,
    DisabledError,
    ExhaustedError,
    InvalidInputError,
    NotFoundError,
    OutOfRangeError,
    PreconditionError,
    UnavailableError,
)

MEDIA_TYPE: Final = "application/problem+json"
STATUSES: Final[dict[type[DesError], HTTPStatus]] = {
    InvalidInputError: HTTPStatus.BAD_REQUEST,
    OutOfRangeError: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    NotFoundError: HTTPStatus.NOT_FOUND,
    AlreadyExistsError: HTTPStatus.CONFLICT,
    ConflictError: HTTPStatus.CONFLICT,
    PreconditionError: HTTPStatus.CONFLICT,
    ExhaustedError: HTTPStatus.INSUFFICIENT_STORAGE,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    CorruptError: HTTPStatus.INTERNAL_SERVER_ERROR,
    DisabledError: HTTPStatus.NOT_IMPLEMENTED,
    DeadlineError: HTTPStatus.GATEWAY_TIMEOUT,
    CredentialsError: HTTPStatus.UNAUTHORIZED,
    DeniedError: HTTPStatus.FORBIDDEN,
}
"""The status of each kind of error."""
GONE: Final = frozenset({"FILE_DELETED"})
"""Reasons of what was there and is not any more."""
RETRY_AFTER_S: Final = 1


def status_of(error: DesError) -> HTTPStatus:
    """Return the status of an error, by its reason or its kind."""
    if error.reason in GONE:
        return HTTPStatus.GONE
    return next(
        (STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), HTTPStatus.INTERNAL_SERVER_ERROR
    )


def problem(
    status: HTTPStatus, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """Return a problem document."""
    return JSONResponse(
        {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail, **more},
        status_code=status,
        headers={"cache-control": "no-store", **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def problem_of(error: DesError) -> JSONResponse:
    """Return the problem document of a deliberate error."""
    status = status_of(error)
    headers = {}
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        wait_s = RETRY_AFTER_S if error.retry_after_s is None else max(1, round(error.retry_after_s))
        headers["retry-after"] = str(wait_s)
    if status is HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="des"'
    return problem(status, str(error), headers, reason=error.reason, facts=error.details)


def answer_with_problems(app: FastAPI) -> None:
    """Make an application answer every error with a problem document."""

    async def deliberate(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, DesError)
        return problem_of(error)

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(found)[:1000], reason="INVALID_FIELD")

    async def http(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return problem(HTTPStatus(error.status_code), str(error.detail), dict(error.headers or {}))

    app.add_exception_handler(DesError, deliberate)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
