"""What is done with messages that nobody wants: they are let go of."""

import asyncio
import sys
from typing import Any

import grpc
from des_proto.v1.file_service_pb2 import StatFileRequest
from des_server.interceptors import calls
from des_server.interceptors.calls import Incoming, readable


def test_a_message_that_cannot_be_read_is_not_kept():
    raw = b"\xff" * 1000
    before = sys.getrefcount(raw)
    message = readable(StatFileRequest.FromString)(raw)
    assert sys.getrefcount(raw) == before
    assert message.ByteSize() == len(raw)


class Sender:
    """A call whose client sends what the test gives it."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.cancelled = False

    async def read(self) -> Any:
        try:
            return await self.messages.get()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def test_a_read_that_waits_is_not_cancelled_when_the_discarding_is_over(monkeypatch):
    """gRPC never frees what arrives for it."""
    monkeypatch.setattr(calls, "DISCARD_WAIT_S", 0.01)
    sender = Sender()
    await Incoming(sender).discard_rest()
    [reading] = calls._DISCARDING
    assert not reading.done()
    sender.messages.put_nowait(grpc.aio.EOF)
    await reading
    assert not sender.cancelled
    assert not calls._DISCARDING


async def test_no_more_is_discarded_than_a_long_message():
    sender = Sender()
    long = StatFileRequest(name="x" * (calls.DISCARD_BYTES_MAX // 2 + 1))
    for _ in range(5):
        sender.messages.put_nowait(long)
    incoming = Incoming(sender)
    await incoming.discard_rest()
    assert incoming.count == 2
    for _ in range(2 * calls.DISCARD_MESSAGES_MAX):
        sender.messages.put_nowait(StatFileRequest())
    while sender.messages.get_nowait() is long:
        pass
    await incoming.discard_rest()
    assert incoming.count == 2 + calls.DISCARD_MESSAGES_MAX
