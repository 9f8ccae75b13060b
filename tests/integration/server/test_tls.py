"""TLS with certificates of a made authority: identity, refusal, and new files without a restart."""

import ssl

import grpc
import httpx
import pytest
from cryptography import x509
from des_proto.v1 import system_service_pb2, system_service_pb2_grpc
from des_server.app import build_server
from des_server.security.tls import TlsFiles, TlsFilesError
from prometheus_client import CollectorRegistry

from des.config import AuthSettings, GrantSettings, TlsSettings
from des.testing.authority import HERE, Authority


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "first")


@pytest.fixture
def settings(settings, tmp_path, authority):
    cert, key = authority.issue(tmp_path, "server", *HERE)
    return settings.model_copy(update={"tls": TlsSettings(cert=cert, key=key), "http_listen": "127.0.0.1:0"})


async def info(server, credentials):
    async with grpc.aio.secure_channel(str(server.address), credentials) as channel:
        stub = system_service_pb2_grpc.SystemServiceStub(channel)
        return await stub.GetServerInfo(system_service_pb2.GetServerInfoRequest(), timeout=20)


def trusting(authority, pair=(None, None)):
    chain, key = (path and path.read_bytes() for path in pair)
    return grpc.ssl_channel_credentials(authority.path.read_bytes(), key, chain)


async def ready(server, authority):
    context = ssl.create_default_context(cafile=authority.path)
    async with httpx.AsyncClient(verify=context, timeout=20) as http:
        return (await http.get(f"https://{server.http_address}/health/ready")).status_code


async def test_both_ports_change_their_certificate_without_a_restart(server, authority, tmp_path):
    second = Authority(tmp_path, "second")
    assert await info(server, trusting(authority))
    assert await ready(server, authority) == 200
    with pytest.raises(grpc.aio.AioRpcError):
        await info(server, trusting(second))
    (tmp_path / "server.key").write_bytes(b"torn")
    assert await info(server, trusting(authority)), "files that cannot be used change nothing"
    assert await ready(server, authority) == 200
    second.issue(tmp_path, "server", *HERE)
    assert await info(server, trusting(second))
    assert await ready(server, second) == 200
    with pytest.raises(grpc.aio.AioRpcError):
        await info(server, trusting(authority))
    with pytest.raises(httpx.ConnectError):
        await ready(server, authority)


async def test_plain_text_gets_nothing(server):
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        stub = system_service_pb2_grpc.SystemServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetServerInfo(system_service_pb2.GetServerInfoRequest(), timeout=20)


async def test_a_client_is_whom_its_certificate_names(double, settings, authority, tmp_path):
    tls = settings.tls.model_copy(update={"client_ca": authority.path})
    auth = AuthSettings(mtls=True, grants=(GrantSettings(principal="cert:packer.des", verbs=("read",)),))
    server = build_server(
        double, settings.model_copy(update={"tls": tls, "auth": auth}), registry=CollectorRegistry()
    )
    await server.start()
    try:
        known = authority.issue(tmp_path, "known", x509.DNSName("packer.des"))
        other = authority.issue(tmp_path, "other", x509.DNSName("other.des"))
        foreign = Authority(tmp_path, "foreign").issue(tmp_path, "packer", x509.DNSName("packer.des"))
        assert await info(server, trusting(authority, known))
        for pair, code in (
            (other, grpc.StatusCode.UNAUTHENTICATED),
            (foreign, grpc.StatusCode.UNAVAILABLE),
            ((None, None), grpc.StatusCode.UNAVAILABLE),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await info(server, trusting(authority, pair))
            assert caught.value.code() is code
    finally:
        await server.stop()


def test_a_key_of_another_certificate_is_refused_at_the_start(authority, tmp_path):
    cert, _ = authority.issue(tmp_path, "a", *HERE)
    _, key = authority.issue(tmp_path, "b", *HERE)
    with pytest.raises(TlsFilesError, match="no certificate and its key"):
        TlsFiles(TlsSettings(cert=cert, key=key))
