"""The way to the server: opening a client, and saying what its errors mean to a user."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from des_client import (
    AsyncDesClient,
    ChecksumMismatch,
    DataLoss,
    DeadlineExceeded,
    DesClient,
    DesClientError,
    FileMissing,
    NameConflict,
    RetryConfig,
    TlsConfig,
    Unavailable,
    UploadInterrupted,
)

from des.cli import options
from des.cli.exits import Exit, Failure

EXITS: Final[tuple[tuple[type[DesClientError], Exit], ...]] = (
    (FileMissing, Exit.NOT_FOUND),
    (NameConflict, Exit.CONFLICT),
    (ChecksumMismatch, Exit.CORRUPT),
    (DataLoss, Exit.CORRUPT),
    (DeadlineExceeded, Exit.DEADLINE),
    (Unavailable, Exit.UNAVAILABLE),
    (UploadInterrupted, Exit.UNAVAILABLE),
)
"""The first row that fits decides; every other error is FAILED."""

FIRST_CONTACT_S: Final = 3.0
"""How long the first call of a verb may take: a wrong address should not look like a slow server."""
CALL_S_MIN: Final = 5.0
"""Least time for a call: little patience with a dead server is not haste with a busy one."""
PATIENT_BACKOFF_S: Final = 2.0


def failure(error: DesClientError) -> Failure:
    """Translate an error of the client."""
    code = next((code for kind, code in EXITS if isinstance(error, kind)), Exit.FAILED)
    return Failure(str(error), code=code, reason=error.reason or error.code.name)


def credentials() -> dict[str, Any]:
    """Return how the environment says to reach the server: never on a command line, which others can read.

    `DES_TOKEN` is an API key or token. `DES_CA` (a PEM file, or `system`) asks for TLS; `DES_CLIENT_CERT`
    and `DES_CLIENT_KEY` show who calls; `DES_SERVER_NAME` is what the certificate must say.

    Raises:
        Failure: a file cannot be read.
    """
    ca, cert, key, name = (
        os.environ.get(each) or None
        for each in ("DES_CA", "DES_CLIENT_CERT", "DES_CLIENT_KEY", "DES_SERVER_NAME")
    )
    for path in (None if ca == "system" else ca, cert, key):
        if path is not None and not os.access(path, os.R_OK):
            raise Failure(f"cannot read {path}", code=Exit.USAGE)
    tls = None
    if ca or cert or key or name:
        tls = TlsConfig(ca=None if ca == "system" else ca, cert=cert, key=key, server_name=name)
    return {"tls": tls, "token": os.environ.get("DES_TOKEN") or None}


def unreachable(address: str, error: DesClientError) -> Failure:
    """Translate the failure of the first call, where a wrong address is the likely cause."""
    # gRPC tells the whole way to the cause; the cause stands last.
    cause = str(error).rsplit("Failed to connect to remote host: ", maxsplit=1)[-1]
    return Failure(
        f"no DES server answers at {address} ({cause}); start one with `des serve`, or name another with"
        " --address or DES_ADDRESS",
        code=Exit.UNAVAILABLE,
        reason=error.reason or error.code.name,
    )


@contextmanager
def connected(address: str, *, timeout_s: float, retry: bool = True) -> Iterator[DesClient]:
    """Open a client; whatever it raises in the block leaves it as a Failure.

    Raises:
        Failure: always in place of a `DesClientError`.
    """
    try:
        with DesClient(
            address,
            timeout_s=timeout_s,
            retry=RetryConfig(unreached_s=FIRST_CONTACT_S) if retry else None,
            **credentials(),
        ) as client:
            yield client
    except Unavailable as error:
        raise unreachable(address, error) from None
    except DesClientError as error:
        raise failure(error) from None


@asynccontextmanager
async def connected_async(address: str, *, patience_s: float) -> AsyncIterator[AsyncDesClient]:
    """Open an asynchronous client that has reached the server once.

    From then on every call outlasts a server that is away for `patience_s`; with 0, none is repeated.

    Raises:
        Failure: always in place of a `DesClientError`.
    """
    retry = RetryConfig(backoff_max_s=PATIENT_BACKOFF_S) if patience_s else None
    timeout_s = max(patience_s, CALL_S_MIN) if patience_s else options.DEFAULT_TIMEOUT_S
    try:
        async with AsyncDesClient(address, timeout_s=timeout_s, retry=retry, **credentials()) as client:
            try:
                await client.server_info(timeout_s=FIRST_CONTACT_S)
            except (Unavailable, DeadlineExceeded) as error:
                raise unreachable(address, error) from None
            yield client
    except DesClientError as error:
        raise failure(error) from None
