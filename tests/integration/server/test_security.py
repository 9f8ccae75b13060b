"""Who may call what: every method, all arities, real credentials over a real port."""

import asyncio
import json
import os
import re
import stat
import time
from collections import Counter
from pathlib import Path

import des_server
import google_crc32c
import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from des_proto.v1 import file_service_pb2 as files_pb2
from des_server.app import SERVICES, build_server
from des_server.convert import MESSAGE_HEADROOM
from des_server.security.api_keys import KeyFileError
from des_server.security.authenticate import api_key_file
from des_server.security.guard import GuardedNode
from des_server.security.principal import Grant, Verb
from des_server.security.rules import METHODS
from google.protobuf import message_factory
from prometheus_client import CollectorRegistry

from des.cli.connection import connected
from des.cli.exits import Failure
from des.clock import SystemClock
from des.config import AuthSettings, GrantSettings, JwtSettings, LimitSettings
from des.files import FileSpec
from des.node import Node
from tests.integration.server import test_bad_input as bad_input

ISSUER, AUDIENCE = "https://issuer.test", "des"
ALL_METHODS = [
    (f"{name}/{method.name}", method) for name, service in SERVICES.items() for method in service.methods
]
ONE_NAME = "TEAM_1"


@pytest.fixture(scope="module")
def signer():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def make_token(signer, **changes):
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 600}
    headers = {"kid": changes.pop("kid", "one")}
    claims.update(changes)
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, signer, "RS256", headers=headers)


@pytest.fixture
def settings(settings, tmp_path, signer):
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(signer.public_key()))
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [{**jwk, "kid": "one", "use": "sig"}]}))
    tokens = JwtSettings(jwks=str(tmp_path / "jwks.json"), issuer=ISSUER, audience=AUDIENCE, leeway_s=0)
    auth = AuthSettings(
        api_keys=True,
        grants=(
            GrantSettings(
                principal="jwt:alice", verbs=("assign", "read", "write", "delete", "list"), prefix="TEAM_"
            ),
            GrantSettings(principal="jwt:root", verbs=tuple(Verb)),
        ),
        audit_file=tmp_path / "audit.jsonl",
    )
    return settings.model_copy(update={"auth": auth, "jwt": tokens, "http_listen": "127.0.0.1:0"})


@pytest.fixture
def key_file(settings):
    return api_key_file(settings, SystemClock())


def audit_lines(settings):
    return [json.loads(line) for line in settings.auth.audit_file.read_text().splitlines()]


def make_call(channel, full_name, method, request=None):
    """Call a method with one request of its type and return what awaits its end."""
    kind = message_factory.GetMessageClass(method.input_type)
    answer = message_factory.GetMessageClass(method.output_type)
    maker = getattr(
        channel,
        "_".join(
            "stream" if many else "unary" for many in (method.client_streaming, method.server_streaming)
        ),
    )
    stub = maker(
        f"/{full_name}", request_serializer=kind.SerializeToString, response_deserializer=answer.FromString
    )

    async def run(metadata, *, send=True):
        message = request if request is not None else kind()
        if method.client_streaming:
            gate = asyncio.Event()

            async def stream():
                if send:
                    yield message
                else:
                    await gate.wait()

            call = stub(stream(), metadata=metadata, timeout=30)
        else:
            call = stub(message, metadata=metadata, timeout=30)
        if method.server_streaming:
            return [one async for one in call]
        return await call

    return run


def bearer(credential):
    return (("authorization", f"Bearer {credential}"),)


BAD = {
    "none": lambda signer, other: (),
    "not a token": lambda signer, other: bearer("nonsense"),
    "another scheme": lambda signer, other: (("authorization", "Basic YTpi"),),
    "two": lambda signer, other: bearer(make_token(signer)) + bearer(make_token(signer)),
    "a stranger's signature": lambda signer, other: bearer(make_token(other)),
    "unknown key id": lambda signer, other: bearer(make_token(signer, kid="two")),
    "expired": lambda signer, other: bearer(make_token(signer, exp=int(time.time()) - 1)),
    "wrong audience": lambda signer, other: bearer(make_token(signer, aud="others")),
    "wrong issuer": lambda signer, other: bearer(make_token(signer, iss="https://evil.test")),
    "without end": lambda signer, other: bearer(make_token(signer, exp=None)),
    "without audience": lambda signer, other: bearer(make_token(signer, aud=None)),
    "unsigned": lambda signer, other: bearer(
        jwt.encode({"sub": "root", "aud": AUDIENCE, "iss": ISSUER}, None, "none", headers={"kid": "one"})
    ),
    "unknown API key": lambda signer, other: bearer("des_00_secret"),
}


async def test_bad_input_without_credentials_is_told_nothing_but_that(server, channel, double):
    """The matrix of bad input once more: who is not known learns nothing about what is wrong with it."""
    tried = set()
    for name, columns in bad_input.MATRIX.items():
        method = bad_input.METHODS[name]
        for column, cases in columns.items():
            for case in cases:
                found = await bad_input.ending_of(
                    bad_input.open_call(channel, method, case.requests, timeout=60), method
                )
                assert found == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID", []), (name, column)
                tried.add(name)
    assert tried == set(bad_input.METHODS)
    assert not double.opened
    assert not double.begun


class TooLong:
    """A message longer than the transport takes; what it says is nothing."""

    SIZE = (2 << 20) + MESSAGE_HEADROOM + 1

    def SerializeToString(self):
        return bytes(self.SIZE)


async def test_a_message_that_is_too_long_gets_no_further_without_credentials(server, double):
    """The transport may refuse it by its length before anybody is asked for; the gate refuses it else."""

    def refusals():
        with grpc.insecure_channel(str(server.address)) as channel:
            for name, method in bad_input.METHODS.items():
                requests = [TooLong()] * (3 if method.client_streaming else 1)
                call = bad_input.open_call(channel, method, requests, timeout=60)
                yield name, bad_input.blocking_refusal_of(call, method)

    for name, refusal in await asyncio.to_thread(lambda: list(refusals())):
        assert refusal in {
            (grpc.StatusCode.RESOURCE_EXHAUSTED, ""),
            (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID"),
        }, name
    assert not double.opened
    assert not double.begun
    while server.inflight.count or server.lending.lent:
        await asyncio.sleep(0.01)


async def test_every_method_refuses_bad_credentials_before_a_message(
    refusal, server, channel, signer, double
):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    denied = Counter()
    for full_name, method in ALL_METHODS:
        run = make_call(channel, full_name, method)
        for what, make in BAD.items():
            async with refusal() as refused:
                await run(make(signer, other), send=False)
            assert (refused().code, refused().reason) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "CREDENTIALS_INVALID",
            ), (full_name, what)
            denied[what] += 1
    assert denied == dict.fromkeys(BAD, len(ALL_METHODS))
    # `pytest -s` shows the matrix.
    print(f"\ndenied, of {len(ALL_METHODS)} methods each, {denied.total()} in all:", dict(denied))
    assert not double.opened
    assert not double.begun


async def test_every_method_refuses_who_has_no_grant_for_it(refusal, server, channel, key_file):
    denied = free = 0
    for full_name, method in ALL_METHODS:
        wanted = METHODS[full_name]
        _, key = key_file.create([Grant(frozenset(Verb) - wanted)], expires_ms=None, note="")
        if not wanted:
            free += 1
            continue
        async with refusal() as refused:
            await make_call(channel, full_name, method)(bearer(key), send=False)
        assert (refused().code, refused().reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        assert refused().facts["permission"] in wanted
        denied += 1
    assert denied + free == len(ALL_METHODS)
    print(
        f"\ndenied for want of a grant: {denied} of {len(ALL_METHODS)} methods; {free} are for everyone known"
    )


def test_every_method_has_its_rule():
    assert {name for name, _ in ALL_METHODS} == set(METHODS)


def spec(name):
    return files_pb2.FileSpec(name=name)


ELSEWHERE = {
    "NamingService/AssignName": lambda name: {"count": 1, "prefix": "OTHER"},
    "FileService/PutFile": lambda name: {"spec": spec(name), "finish": True},
    "FileService/GetFile": lambda name: {"name": name},
    "FileService/StatFile": lambda name: {"name": name},
    "FileService/DeleteFile": lambda name: {"name": name},
    "FileService/ListFiles": lambda name: {"prefix": "TEA"},
    "FileService/StartUpload": lambda name: {"spec": spec(name)},
    "FileService/GetUploadStatus": lambda name: {"upload_id": f"{name}~1"},
    "FileService/CancelUpload": lambda name: {"upload_id": f"{name}~1"},
}


@pytest.mark.parametrize("short", ELSEWHERE)
@pytest.mark.parametrize("name", ["OTHER_1", "OTHER_missing", "team_1", ""])
async def test_what_lies_outside_a_prefix_is_refused_whether_it_exists_or_not(
    refusal, server, channel, double, signer, short, name
):
    await double.put_bytes(named("OTHER_1"), b"x", crc(b"x"))
    [(full_name, method)] = [each for each in ALL_METHODS if each[0].endswith(short)]
    kind = message_factory.GetMessageClass(method.input_type)
    async with refusal() as refused:
        await make_call(channel, full_name, method, kind(**ELSEWHERE[short](name)))(
            bearer(make_token(signer))
        )
    assert (refused().code, refused().reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")


def crc(data):
    return google_crc32c.value(data)


def named(name):
    return FileSpec(name=name)


async def test_batches_answer_each_item_for_itself(server, channel, double, signer, settings):
    for name in (ONE_NAME, "OTHER_1", "TEAM_2"):
        await double.put_bytes(named(name), name.encode(), crc(name.encode()))
    names = ["OTHER_1", ONE_NAME, "OTHER_missing", "TEAM_2"]
    by_name = {short.rpartition("/")[2]: (short, method) for short, method in ALL_METHODS}
    good = bearer(make_token(signer))
    denied = grpc.StatusCode.PERMISSION_DENIED.value[0]

    async def ask(method, request):
        return await make_call(channel, *by_name[method], request)(good)

    found = await ask("BatchStatFiles", files_pb2.BatchStatFilesRequest(names=names))
    assert [one.status.code for one in found.results] == [denied, 0, denied, 0]
    waited = await ask("WaitStored", files_pb2.WaitStoredRequest(names=names))
    assert [one.status.code for one in waited.results] == [denied, 0, denied, 0]
    messages = await ask(
        "BatchReadFiles",
        files_pb2.BatchReadFilesRequest(items=[files_pb2.ReadItem(name=name) for name in names]),
    )
    parts = {part.index: part for message in messages for part in message.parts}
    assert {index: part.status.code for index, part in parts.items()} == {0: denied, 1: 0, 2: denied, 3: 0}
    assert (parts[1].chunk.data, parts[3].chunk.data) == (b"TEAM_1", b"TEAM_2")
    deleted = await ask("BatchDeleteFiles", files_pb2.BatchDeleteFilesRequest(names=names))
    assert [one.status.code for one in deleted.results] == [denied, 0, denied, 0]
    assert "OTHER_1" in double.files
    noted = [(line["name"], line["result"]) for line in audit_lines(settings) if line["verb"] == "delete"]
    assert sorted(noted) == [
        ("OTHER_1", "PERMISSION_DENIED"),
        ("OTHER_missing", "PERMISSION_DENIED"),
        ("TEAM_1", "OK"),
        ("TEAM_2", "OK"),
    ]


async def test_what_is_granted_is_done_and_written_down(server, channel, signer, settings, double):
    [(name, method)] = [each for each in ALL_METHODS if each[0].endswith("PutFile")]
    message = files_pb2.PutFileRequest(spec=spec(ONE_NAME), finish=True)
    message.chunk.data = b"hello"
    message.chunk.crc32c = crc(b"hello")
    await make_call(channel, name, method, message)(bearer(make_token(signer)))
    assert double.files[ONE_NAME][1] == b"hello"
    [line] = audit_lines(settings)
    assert (line["principal"], line["verb"], line["name"], line["result"]) == (
        "jwt:alice",
        "write",
        ONE_NAME,
        "OK",
    )
    assert stat.S_IMODE(settings.auth.audit_file.stat().st_mode) == 0o600


async def test_a_key_is_good_until_it_is_revoked_or_expires(server, channel, key_file, double):
    await double.put_bytes(named(ONE_NAME), b"x", crc(b"x"))
    [(name, method)] = [each for each in ALL_METHODS if each[0].endswith("/StatFile")]
    run = make_call(channel, name, method, files_pb2.StatFileRequest(name=ONE_NAME))
    made, key = key_file.create([Grant(frozenset({Verb.READ}), "TEAM_")], expires_ms=None, note="")
    _, old = key_file.create([Grant(frozenset({Verb.READ}))], expires_ms=SystemClock().now_ms(), note="")
    await run(bearer(key))
    assert key_file.revoke(made.key_id)
    for refused_key in (key, old, key[:-1], f"des_{made.key_id}_"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await run(bearer(refused_key))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_http_port_asks_for_the_same(server, signer, double):
    for name in (ONE_NAME, "OTHER_1"):
        await double.put_bytes(named(name), b"x", crc(b"x"))
    alice = {"authorization": f"Bearer {make_token(signer)}"}
    root = {"authorization": f"Bearer {make_token(signer, sub='root')}"}
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=30) as http:
        for path in ("/files/TEAM_1", "/metrics", "/openapi.json", "/no-such-page"):
            answer = await http.get(path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (await http.post("/assign", json={})).status_code == 401
        assert (await http.get("/files/TEAM_1", headers=alice)).content == b"x"
        for path in ("/files/OTHER_1", "/files/OTHER_missing", "/metrics"):
            assert (await http.get(path, headers=alice)).status_code == 403
        assert (await http.post("/assign", json={"prefix": "OTHER"}, headers=alice)).status_code == 403
        assert (await http.post("/assign", json={"prefix": "TEAM"}, headers=alice)).status_code == 200
        assert (await http.get("/metrics", headers=root)).status_code == 200
        assert (await http.get("/health/ready")).status_code == 200
        for headers in ({}, alice, {"authorization": "Bearer no"}):
            told = (await http.get("/health/ready", headers=headers)).json()
            assert set(told) == {"status", "writable", "readable"}
        assert "checks" in (await http.get("/health/ready", headers=root)).json()


async def test_secrets_stand_in_no_log_error_metric_or_audit_line(
    server, channel, signer, key_file, settings, capfd, caplog
):
    _, key = key_file.create([Grant(frozenset(Verb), "TEAM_")], expires_ms=None, note="")
    canaries = [key, key.split("_", 2)[2], make_token(signer), "CANARY-" + "x" * 40]
    seen = ""
    for full_name, method in ALL_METHODS:
        for canary in canaries:
            try:
                await asyncio.wait_for(make_call(channel, full_name, method)(bearer(canary)), 10)
            except grpc.aio.AioRpcError as error:
                seen += repr(error) + str(error.trailing_metadata())
    root = {"authorization": f"Bearer {make_token(signer, sub='root')}"}
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=30) as http:
        seen += (await http.get("/metrics", headers=root)).text
        seen += (await http.get("/files/x", headers={"authorization": f"Bearer {canaries[3]}"})).text
    told = capfd.readouterr()
    seen += told.out + told.err + caplog.text + settings.auth.audit_file.read_text() + repr(settings)
    assert len(seen) > 10_000
    for canary in canaries:
        assert canary not in seen
        assert canary not in (settings.data_dir / "api-keys.json").read_text()


async def test_a_principal_that_calls_too_often_is_told_when_to_come_back(refusal, double, settings, signer):
    settings = settings.model_copy(update={"limits": LimitSettings(principal_calls_per_s=0.01)})
    server = build_server(double, settings, registry=CollectorRegistry())
    await server.start()
    [(name, method)] = [each for each in ALL_METHODS if each[0].endswith("GetServerInfo")]
    try:
        async with grpc.aio.insecure_channel(str(server.address)) as channel:
            run = make_call(channel, name, method)
            await run(bearer(make_token(signer)))
            async with refusal() as refused:
                await run(bearer(make_token(signer)))
            assert (refused().code, refused().reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "QUOTA_EXCEEDED",
            )
            assert "RetryInfo" in refused().kinds
            await run(bearer(make_token(signer, sub="root")))
    finally:
        await server.stop()


async def test_reflection_is_off_where_callers_are_told_apart(server, channel):
    call = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")(iter([b""]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_guard_has_all_that_the_doors_use_of_a_node():
    used = set()
    for path in Path(des_server.__file__).parent.rglob("*.py"):
        if "security" not in path.parts:
            used |= set(re.findall(r"\bnode\.([a-z_]+)", path.read_text()))
    used -= {
        "close",
        "settings",
        "uploads",
        "open",
        "node",
        "node_id",
        "node_uuid",
        "store_id",
        "started_ms",
        "cluster",
        "join",
        "leave",
        "wait_room",
    }
    used = {name for name in used if hasattr(Node, name)}
    assert used
    assert used <= set(vars(GuardedNode))


async def test_the_command_line_takes_its_credentials_from_the_environment(server, key_file, monkeypatch):
    _, key = key_file.create([Grant(frozenset({Verb.READ}))], expires_ms=None, note="")

    def ask():
        with connected(str(server.address), timeout_s=20, retry=False) as client:
            return client.server_info()

    with pytest.raises(Failure) as caught:
        await asyncio.to_thread(ask)
    assert caught.value.reason == "CREDENTIALS_INVALID"
    monkeypatch.setenv("DES_TOKEN", key)
    assert await asyncio.to_thread(ask)


@pytest.mark.parametrize(
    ("mode", "owner", "good"),
    [
        (0o600, 0, True),
        (0o640, 0, False),
        (0o604, 0, False),
        (0o440, 1, True),
        (0o640, 1, True),
        (0o460, 1, False),
        (0o444, 1, False),
    ],
)
def test_a_file_of_keys_is_for_its_owner_or_for_the_group_that_another_user_gave_it_to(
    key_file, settings, monkeypatch, mode, owner, good
):
    made, key = key_file.create([Grant(frozenset({Verb.READ}))], expires_ms=None, note="")
    path = settings.data_dir / "api-keys.json"
    path.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + owner)
    fresh = api_key_file(settings, SystemClock())
    if good:
        assert fresh.authenticate(key).name == f"key:{made.key_id}"
    else:
        with pytest.raises(KeyFileError, match="has mode"):
            fresh.authenticate(key)
