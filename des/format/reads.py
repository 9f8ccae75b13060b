"""A plan of reads, and who drives it.

A plan is a generator: it yields a `ByteRange`, is sent exactly these bytes, and returns its result.
`DesReader` drives it with pread, `S3DesReader` with ranged GETs, a test with slices.
"""

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias, TypeVar

from des.format.byte_range import ByteRange

T = TypeVar("T")
Reads: TypeAlias = Generator[ByteRange, bytes, T]
"""A pure plan: yields a range it needs, is sent the bytes, returns a `T`."""


def run(plan: Reads[T], read: Callable[[ByteRange], bytes]) -> T:
    """Drive a plan with a blocking `read`."""
    try:
        wanted = next(plan)
        while True:
            wanted = plan.send(read(wanted))
    except StopIteration as done:
        result: T = done.value
        return result


async def run_async(plan: Reads[T], read: Callable[[ByteRange], Coroutine[Any, Any, bytes]]) -> T:
    """Drive a plan with an awaitable `read`."""
    try:
        wanted = next(plan)
        while True:
            wanted = plan.send(await read(wanted))
    except StopIteration as done:
        result: T = done.value
        return result
