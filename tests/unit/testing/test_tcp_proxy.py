"""The proxy forwards, refuses and falls silent as it is told."""

import asyncio

import pytest

from des.testing.tcp_proxy import Link, TcpProxy


@pytest.fixture
async def echo():
    async def serve(reader, writer):
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()


async def ask(reader, writer, data=b"hello", timeout_s=20.0):
    writer.write(data)
    await writer.drain()
    return await asyncio.wait_for(reader.read(1024), timeout_s)


async def test_a_connection_passes_is_cut_and_comes_back(echo):
    with TcpProxy(echo) as proxy:
        connection = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await ask(*connection) == b"hello"
        await asyncio.to_thread(proxy.set, Link.REFUSING)
        with pytest.raises((ConnectionError, AssertionError)):
            assert await ask(*connection) == b"hello"
        other = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises((ConnectionError, AssertionError)):
            assert await ask(*other) == b"hello"
        await asyncio.to_thread(proxy.set, Link.UP)
        again = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await ask(*again) == b"hello"
        for _, writer in (connection, other, again):
            writer.close()


async def test_a_silent_link_delivers_later(echo):
    with TcpProxy(echo) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await ask(reader, writer) == b"hello"
        await asyncio.to_thread(proxy.set, Link.SILENT)
        with pytest.raises(TimeoutError):
            await ask(reader, writer, b"later", timeout_s=0.2)
        await asyncio.to_thread(proxy.set, Link.UP)
        assert await asyncio.wait_for(reader.read(1024), 20) == b"later"
        writer.close()
