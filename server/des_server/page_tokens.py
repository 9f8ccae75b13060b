"""Page tokens: where to go on, sealed with the question they belong to.

A token is base64url of a checksum and a position. The checksum covers the question too, so a token that
was made for another question, or by hand, is refused and not misread. It is no secret and keeps none.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Final

from des_server.errors import PageTokenError

_CHECK_SIZE: Final = 8
_TOKEN_LENGTH_MAX: Final = 1024


def make_token(question: bytes, position: Sequence[str]) -> str:
    """Return the token that leads from the answer to `question` to what follows `position`."""
    body = "\0".join(position).encode()
    return base64.urlsafe_b64encode(_check(question, body) + body).decode().rstrip("=")


def read_token(token: str, question: bytes, *, parts: int) -> list[str]:
    """Return the position of a token that was made for `question`, as so many parts.

    Raises:
        PageTokenError: it is not from here, or from another question.
    """
    error = PageTokenError(
        f"page token {token[:64]!r} is not from this method and this question", page_token=token
    )
    if len(token) > _TOKEN_LENGTH_MAX:
        raise error
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        check, body = raw[:_CHECK_SIZE], raw[_CHECK_SIZE:]
        position = body.decode().split("\0")
    except (binascii.Error, ValueError):
        raise error from None
    if check != _check(question, body) or len(position) != parts:
        raise error
    return position


def _check(question: bytes, body: bytes) -> bytes:
    return hashlib.blake2s(
        len(question).to_bytes(8, "little") + question + body, digest_size=_CHECK_SIZE
    ).digest()
