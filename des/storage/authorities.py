"""The authorities that sign a store's certificate, where they are not the system's."""

import ssl
from pathlib import Path

from des.errors import InvalidInputError


class BadAuthoritiesError(InvalidInputError):
    """The file of `ca_bundle` cannot be read, or has no certificate."""


def read_authorities(path: Path) -> bytes:
    """Return the certificates of a PEM file, which was read as TLS will read it.

    Raises:
        BadAuthoritiesError: it cannot be read, or has none.
    """
    try:
        pem = path.read_bytes()
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except (OSError, ValueError) as error:
        raise BadAuthoritiesError(
            f"ca_bundle is {str(path)!r}, expected a PEM file of certificates: {error}", field="ca_bundle"
        ) from error
    return pem
