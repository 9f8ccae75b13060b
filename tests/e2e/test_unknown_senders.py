"""Oversized messages from senders without credentials: refused, and nothing of them is kept in memory."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from tests.conftest import ServerProcess

MIB = 1 << 20
AT_ONCE = 2
ROUNDS = 48
GROWTH_MAX = 128 * MIB
"""Less than one message of each of the calls, or the long ones of one moment, would be."""

PUT = "/des.v1.FileService/PutFile"
WRITE = "/des.v1.FileService/BatchWriteFiles"
STAT = "/des.v1.FileService/StatFile"


@pytest.fixture
def guarded(make_server) -> ServerProcess:
    return make_server({"DES_AUTH__API_KEYS": "true"}).start()


def peak_of(server: ServerProcess) -> int:
    """Return the most memory that the process has had at a time, in bytes."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def code_of(address: str, method: str, messages: list[bytes]) -> grpc.StatusCode:
    """Return what a call of these messages ends with, on a connection of its own."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            if method == STAT:
                channel.unary_unary(method)(messages[0], timeout=120)
            elif method == PUT:
                channel.stream_unary(method)(iter(messages), timeout=120)
            else:
                list(channel.stream_stream(method)(iter(messages), timeout=120))
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_what_strangers_send_does_not_grow_the_server(guarded) -> None:
    too_long = [bytes(80 * MIB)]
    within = [bytes(2 * MIB)] * 32  # each as long as a message may be
    refusals = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAUTHENTICATED}
    with ThreadPoolExecutor(AT_ONCE) as threads:

        def send(method: str, messages: list[bytes]) -> None:
            calls = [threads.submit(code_of, guarded.address, method, messages) for _ in range(AT_ONCE)]
            assert {call.result() for call in calls} <= refusals, method

        for _ in range(2):  # what is taken for buffers stays with the process, and serves the next ones
            send(PUT, within)
            send(WRITE, within)
        before = peak_of(guarded)
        for method in (PUT, WRITE, STAT):
            send(method, too_long)
        for _ in range(ROUNDS):
            send(PUT, within)
        assert peak_of(guarded) - before < GROWTH_MAX
    assert code_of(guarded.address, STAT, [b""]) is grpc.StatusCode.UNAUTHENTICATED
