"""Methods of a proto that this server does not serve (`Health.List`), refused in one place."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from des.errors import DisabledError


def disabled(method: MethodDescriptor) -> Callable[[Any, Any], Any]:
    """Return a handler of the method's arity that refuses every call."""
    feature = method.name

    def refusal() -> DisabledError:
        return DisabledError(
            f"{method.full_name} is not served here: feature {feature!r} is off", feature=feature
        )

    async def refuse_once(_request: Any, _context: Any) -> Any:
        raise refusal()

    async def refuse_stream(_request: Any, _context: Any) -> AsyncIterator[Any]:
        raise refusal()
        yield  # makes this a generator

    return refuse_stream if method.server_streaming else refuse_once
