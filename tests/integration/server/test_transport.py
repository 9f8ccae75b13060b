"""What the transport takes in before anybody has read it."""

import asyncio
import contextlib

import grpc
from des_server.app import LOOKAHEAD_BYTES, channel_options

from des.config.settings import LimitSettings

MESSAGE = bytes(256 << 10)
READ = 60
"""Messages read at full speed first: a window that grows with the sender would be large by then."""
QUIET_S = 1.0
"""Nothing was taken for so long: the window is full. A slow machine may end early, with less."""


async def test_a_fast_sender_does_not_fill_a_stream_that_nobody_reads():
    gone = asyncio.Event()

    async def reads_some(requests, _context):
        read = 0
        async for _ in requests:
            read += 1
            if read == READ:
                await gone.wait()
        return b""

    handler = grpc.stream_unary_rpc_method_handler(reads_some)
    server = grpc.aio.server(options=channel_options(LimitSettings()))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"Send": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    taken = 0
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.stream_unary("/test/Send")()
            with contextlib.suppress(TimeoutError):
                while taken < 200 * len(MESSAGE):
                    async with asyncio.timeout(60 if taken < READ * len(MESSAGE) else QUIET_S):
                        await call.write(MESSAGE)
                    taken += len(MESSAGE)
            gone.set()
            call.cancel()
    finally:
        gone.set()
        await server.stop(0)
    assert READ * len(MESSAGE) <= taken <= READ * len(MESSAGE) + LOOKAHEAD_BYTES + 4 * len(MESSAGE)
