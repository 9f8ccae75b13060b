"""An issuer's keys over HTTP: real sockets, a clock that tests move."""

import http.server
import json
import threading
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from des_server.security import tokens
from des_server.security.tokens import KeySet, KeySetError, KeySetUnavailableError, TokenChecker

from des.config import JwtSettings
from des.errors import CredentialsError
from des.testing.simulated_clock import SimulatedClock

ALGORITHMS = ("RS256",)


class Issuer:
    """An HTTP server that answers as `answer` says and counts its questions."""

    def __init__(self):
        self.keys = {}
        self.asked = 0
        self.status = 200
        self.headers = {}
        self.body = None
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked += 1
                body = issuer.body if issuer.body is not None else issuer.key_set()
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"

    def key_set(self):
        listed = [
            {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": key_id, "use": "sig"}
            for key_id, key in self.keys.items()
        ]
        return json.dumps({"keys": listed}).encode()

    def stop(self):
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


@pytest.fixture(scope="module")
def signers():
    return [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]


@pytest.fixture
def issuer(signers):
    issuer = Issuer()
    issuer.keys["one"] = signers[0]
    yield issuer
    issuer.stop()


@pytest.fixture
def clock():
    return SimulatedClock()


@pytest.fixture
def keys(issuer, clock):
    return KeySet(issuer.url, ALGORITHMS, clock)


def token(signer, key_id):
    claims = {"iss": "https://issuer.test", "aud": "des", "sub": "alice", "exp": int(time.time()) + 600}
    return jwt.encode(claims, signer, "RS256", headers={"kid": key_id})


async def test_tokens_are_checked_with_keys_of_the_url_and_a_new_key_is_found(issuer, clock, signers):
    settings = JwtSettings(jwks=issuer.url, issuer="https://issuer.test", audience="des")
    checker = TokenChecker(settings, clock)
    assert await checker.subject(token(signers[0], "one")) == "alice"
    assert await checker.subject(token(signers[0], "one")) == "alice"
    assert issuer.asked == 1
    issuer.keys = {"two": signers[1]}
    with pytest.raises(CredentialsError):  # asked a moment ago: whoever makes key ids up causes no requests
        await checker.subject(token(signers[1], "two"))
    assert issuer.asked == 1
    clock.advance(tokens.FETCH_PAUSE_S)
    assert await checker.subject(token(signers[1], "two")) == "alice"
    with pytest.raises(CredentialsError):
        await checker.subject(token(signers[0], "one"))
    assert issuer.asked == 2


async def test_a_signature_with_another_key_of_the_same_id_is_refused(issuer, clock, signers):
    settings = JwtSettings(jwks=issuer.url, issuer="https://issuer.test", audience="des")
    with pytest.raises(CredentialsError):
        await TokenChecker(settings, clock).subject(token(signers[1], "one"))


async def test_keys_are_asked_for_again_when_they_are_no_longer_fresh(keys, issuer, clock):
    assert await keys.find("one")
    clock.advance(tokens.KEYS_FRESH_S - 1)
    assert await keys.find("one")
    assert issuer.asked == 1
    clock.advance(2)
    assert await keys.find("one")
    assert issuer.asked == 2


@pytest.mark.parametrize("how", ["gone", "error", "not json", "no keys", "too long", "redirect"])
async def test_while_the_issuer_gives_nothing_good_the_old_keys_serve_for_an_hour(keys, issuer, clock, how):
    assert await keys.find("one")
    match how:
        case "gone":
            issuer.stop()
        case "error":
            issuer.status = 500
        case "not json":
            issuer.body = b"<html>"
        case "no keys":
            issuer.body = b'{"keys": 7}'
        case "too long":
            issuer.body = issuer.key_set() + b" " * tokens.KEYS_BYTES_MAX
        case "redirect":
            issuer.status, issuer.headers = 302, {"Location": issuer.url + "/elsewhere"}
    clock.advance(tokens.KEYS_STALE_S - 1)
    assert await keys.find("one")
    clock.advance(2 + tokens.FETCH_PAUSE_S)
    with pytest.raises(KeySetUnavailableError) as caught:
        await keys.find("one")
    assert caught.value.retry_after_s == tokens.FETCH_PAUSE_S
    assert how == "gone" or issuer.asked == 3


async def test_an_issuer_that_never_answered_is_no_reason_to_let_anyone_in(issuer, clock):
    issuer.stop()
    with pytest.raises(KeySetUnavailableError):
        await KeySet(issuer.url, ALGORITHMS, clock).find("one")


def test_keys_come_over_https_unless_from_this_machine(clock):
    KeySet("https://issuer.test/keys", ALGORITHMS, clock)
    for url in ("http://issuer.test/keys", "ftp://127.0.0.1/keys", "file:///etc/keys"):
        with pytest.raises(KeySetError, match="expected https"):
            KeySet(url, ALGORITHMS, clock)
