"""Targets, TLS, tokens, headers."""

import shutil
import subprocess

import grpc
import pytest
from des_client import AsyncDesClient, DesClient, InvalidArgument, TlsConfig, Unavailable
from des_client.channels import endpoints
from des_double import RunningDouble


def made(target="127.0.0.1:7420", **options):
    defaults = {
        "tls": None,
        "token": None,
        "allow_insecure_token": False,
        "metadata": {},
        "channels": 1,
        "options": (),
    }
    return endpoints(target, **(defaults | options))


def test_neighbours_in_the_round_robin_are_different_servers():
    assert made(["a:1", "b:1"], channels=2).targets == ("a:1", "b:1", "a:1", "b:1")


@pytest.mark.parametrize("target", ["", [], [""], ["a:1", ""]])
def test_no_target_is_refused(target):
    with pytest.raises(InvalidArgument):
        made(target)


@pytest.mark.parametrize(
    "target",
    ["localhost", "localhost:http", "::1:7420", "[::1]", "http://localhost:7420", "localhost:7420/", ":7420"],
)
def test_what_is_no_place_of_a_server_is_refused_and_not_looked_for(target):
    """gRPC would try port 443, or look for a host of that name, and call the server unavailable."""
    with pytest.raises(InvalidArgument, match="expected host:port, as in 'localhost:7420'"):
        made(target)


@pytest.mark.parametrize(
    "target",
    ["a.b-c:1", "[::1]:7420", "dns:///a:1", "unix:/a/b", "unix:a", "ipv4:1.2.3.4:5,1.2.3.4:6", "xds:///a"],
)
def test_what_grpc_takes_for_a_place_is_taken(target):
    assert made(target).targets == (target,)


def test_no_channel_is_refused():
    with pytest.raises(InvalidArgument):
        made(channels=0)


def test_grpcs_own_retries_are_off_and_connections_are_not_shared():
    options = dict(made().options)
    assert options["grpc.enable_retries"] == 0
    assert options["grpc.use_local_subchannel_pool"] == 1
    assert options["grpc.keepalive_time_ms"] == 60_000
    assert options["grpc.keepalive_timeout_ms"] == 20_000


def test_the_callers_options_come_last_and_win():
    assert made(options=(("grpc.keepalive_time_ms", 5),)).options[-1] == ("grpc.keepalive_time_ms", 5)


@pytest.mark.parametrize(
    "target", ["127.0.0.1:1", "127.8.8.8:1", "localhost:1", "[::1]:1", "unix:/x", "dns:///localhost:1"]
)
def test_a_token_may_go_to_this_machine_in_clear_text(target):
    assert made(target, token="t").metadata == (("authorization", "Bearer t"),)


@pytest.mark.parametrize("target", ["10.0.0.1:1", "localhost.evil:1", "127.0.0.1.evil:1", "des.example:1"])
def test_a_token_crosses_no_network_in_clear_text_unasked(target):
    with pytest.raises(InvalidArgument, match="clear text"):
        made(["127.0.0.1:1", target], token="t")
    assert made(target, token="t", allow_insecure_token=True).metadata
    assert made(target, token="t", tls=True).metadata


@pytest.mark.parametrize(
    "metadata",
    [{"Upper": "x"}, {"": "x"}, {"a b": "x"}, {"grpc-x": "y"}, {"x-bin": "y"}, {"x": "ä"}, {"x": "a\nb"}],
)
def test_headers_that_grpc_would_refuse_are_refused_at_once(metadata):
    with pytest.raises(InvalidArgument):
        DesClient(metadata=metadata)


def test_secrets_do_not_show():
    client = DesClient(token="secret", metadata={"x": "hidden"})
    assert repr(client) == "DesClient(['127.0.0.1:7420'])"
    assert repr(AsyncDesClient(["a:1", "b:1"], channels=3)) == "AsyncDesClient(['a:1', 'b:1'])"
    assert "secret" not in repr(made(token="secret"))
    assert "PRIVATE" not in repr(TlsConfig(cert=b"c", key=b"PRIVATE"))
    client.close()


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_a_client_needs_a_finite_timeout(timeout_s):
    with pytest.raises(InvalidArgument):
        DesClient(timeout_s=timeout_s)
    with pytest.raises(InvalidArgument):
        AsyncDesClient(timeout_s=timeout_s)


def test_half_a_client_certificate_is_refused():
    with pytest.raises(InvalidArgument):
        TlsConfig(cert=b"c")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            key,
            "-out",
            cert,
            "-days",
            "2",
            "-subj",
            "/CN=des.test",
            "-addext",
            "subjectAltName=DNS:des.test",
        ],
        check=True,
        capture_output=True,
    )
    return key, cert


@pytest.mark.parametrize("mutual", [False, True])
async def test_tls_with_a_certificate_of_ones_own(certificate, mutual):
    key, cert = certificate
    pem = cert.read_bytes()
    running = RunningDouble(
        grpc.ssl_server_credentials([(key.read_bytes(), pem)], pem if mutual else None, mutual)
    )
    own = {"cert": str(cert), "key": key} if mutual else {}
    tls = TlsConfig(ca=pem, server_name="des.test", **own)
    try:
        with DesClient(running.target, tls=tls, token="t") as des:
            name = des.put(b"hello").file.name
        async with AsyncDesClient(running.target, tls=tls) as des:
            assert await des.get(name) == b"hello"
        strangers = [TlsConfig(ca=pem), None] + ([TlsConfig(ca=pem, server_name="des.test")] * mutual)
        for stranger in strangers:
            with DesClient(running.target, tls=stranger, retry=None) as des, pytest.raises(Unavailable):
                des.stat(name)
    finally:
        running.close()


def test_a_token_that_is_asked_for_is_the_one_of_now():
    tokens = iter(["first", "second"])
    made_once = made(token=lambda: next(tokens))
    assert made_once.metadata == (("authorization", "Bearer first"),)
    assert made_once.metadata == (("authorization", "Bearer second"),)
    assert made(token=lambda: "t", metadata={"authorization": "mine", "x": "y"}).metadata == (
        ("x", "y"),
        ("authorization", "Bearer t"),
    )


@pytest.mark.parametrize("token", ["a\nb", "ä", None])
def test_a_token_that_cannot_be_sent_is_refused_when_it_is_given(token):
    with pytest.raises(InvalidArgument, match="printable ASCII") as caught:
        _ = made(token=lambda: token).metadata
    assert str(token) not in str(caught.value)


def test_a_callable_that_gives_tokens_crosses_no_network_in_clear_text_either():
    with pytest.raises(InvalidArgument, match="clear text"):
        made("10.0.0.1:1", token=lambda: "t")
