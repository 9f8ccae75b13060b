"""A cluster that tells callers apart: nodes prove themselves, and nobody passes for a node."""

import asyncio
import json

import grpc
import pytest
from des_client import DesClientError, PermissionDenied, PutItem, TlsConfig
from des_proto.v1.file_service_pb2 import BatchReadFilesRequest, ListFilesRequest, ReadItem, StatFileRequest
from des_proto.v1.file_service_pb2_grpc import FileServiceStub
from des_server.cluster.node_keys import ClusterKeyError, NodeKeys
from des_server.cluster.peers import LOOK_S
from des_server.security.api_keys import ApiKeyFile
from des_server.security.principal import Grant, Verb
from pydantic import ValidationError

from des.clock import SystemClock
from des.config import ClusterSettings, Settings
from des.testing.authority import HERE, Authority
from tests.integration.server.cluster_in_process import running_cluster

KEY = "one-key-of-this-cluster-and-no-other"
MARKS = [
    ("des-forwarded-by", "11111111-1111-1111-1111-111111111111"),
    ("des-coming-home", "11111111-1111-1111-1111-111111111111"),
    ("des-open-only", "1"),
]


@pytest.fixture
async def secured(tmp_path):
    """A cluster with TLS in both directions, keys, an audit log, and two callers with grants."""
    authority = Authority(tmp_path, "nodes")
    cert, key = authority.issue(tmp_path, "node", *HERE)
    keys = ApiKeyFile(tmp_path / "keys.json", SystemClock())
    _, everything = keys.create([Grant(frozenset(Verb))], expires_ms=None, note="")
    made, some = keys.create(
        [Grant(frozenset({Verb.READ, Verb.WRITE, Verb.ASSIGN, Verb.LIST, Verb.DELETE}), "TEAM_")],
        expires_ms=None,
        note="",
    )
    options = {
        "tls": {"cert": cert, "key": key, "client_ca": authority.path},
        "auth": {"api_keys": True, "api_keys_file": tmp_path / "keys.json", "audit_file": tmp_path / "audit"},
        "cluster": {"key": KEY, "ca": authority.path},
    }
    tls = TlsConfig(ca=authority.path.read_bytes(), cert=cert.read_bytes(), key=key.read_bytes())
    async with running_cluster(tmp_path, client={"tls": tls, "token": everything}, **options) as cluster:
        yield cluster, tls, some, f"key:{made.key_id}"


@pytest.mark.timeout(120)
async def test_what_is_sent_on_is_looked_at_once_and_written_down_in_the_callers_name(secured, tmp_path):
    cluster, _, token, principal = secured
    async with cluster.client(0) as everyone:
        names = [
            name
            for member in cluster.members
            for name in await cluster.names_at(member, 2, everyone, prefix="TEAM")
        ]
        foreign = await cluster.names_at(cluster.members[1], 1, everyone)
    async with cluster.client(2, token=token) as team:
        for name in names[::2]:
            assert (await team.put(b"one", name=name)).file.name == name
        async for one in team.put_many(PutItem(b"many", name=name) for name in names[1::2]):
            one.unwrap()
        assert [one.unwrap() async for one in team.get_many(names)] == [b"one", b"many"] * 3
        assert await team.get(names[2]) == b"one"
        assert [info.name async for info in team.list(prefix="TEAM_")] == sorted(names)
        await team.delete(names[2])
        # What is not granted is refused where the caller is known, whoever owns it.
        for refused in (
            team.put(b"x", name=foreign[0]),
            team.get(foreign[0]),
            team.delete(foreign[0]),
            team.shard_status(),
        ):
            with pytest.raises(PermissionDenied):
                await refused
        errors = [one.error async for one in team.put_many([PutItem(b"x", name=foreign[0])])]
        assert isinstance(errors[0], PermissionDenied)
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    written = {line["name"] for line in lines if line["principal"] == principal and line["result"] == "OK"}
    assert set(names) <= written


@pytest.mark.timeout(120)
async def test_nobody_passes_for_a_node(secured):
    cluster, tls, token, _ = secured
    async with cluster.client(0) as everyone:
        (name,) = await cluster.names_at(cluster.members[0], 1, everyone)
        await everyone.put(b"secret", name=name)
    credentials = grpc.ssl_channel_credentials(tls.ca, private_key=tls.key, certificate_chain=tls.cert)
    async with grpc.aio.secure_channel(cluster.members[0].address, credentials) as channel:
        stub = FileServiceStub(channel)
        calls = (
            lambda metadata: stub.StatFile(StatFileRequest(name=name), metadata=metadata),
            lambda metadata: stub.ListFiles(ListFilesRequest(), metadata=metadata),
            lambda metadata: stub.BatchReadFiles(
                BatchReadFilesRequest(items=[ReadItem(name=name)]), metadata=metadata
            ).read(),
        )
        bearer = ("authorization", f"Bearer {token}")
        for mark in MARKS:
            for proof in ([], [bearer], [("des-node-key", "another-key-of-another-cluster-entirely")]):
                for call in calls:
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await call([mark, *proof])
                    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        # The caller's own name does not make it another's.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls[0]([bearer, ("des-principal-bin", b"key:root")])
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert (await calls[0]([MARKS[0], ("des-node-key", KEY)])).file.name == name


@pytest.mark.timeout(120)
async def test_nodes_with_different_keys_do_not_serve_each_other(tmp_path):
    async with running_cluster(tmp_path, nodes=2, cluster={"key": KEY}) as cluster:
        cluster.options["cluster"]["key"] = KEY[::-1]
        await cluster.members[1].stop()
        await cluster.members[1].start()
        await cluster.settled()
        async with cluster.client(0, retry=None) as client:
            (name,) = await cluster.names_at(cluster.members[1], 1, client)
            with pytest.raises(DesClientError):
                await client.put(b"x", name=name)


def test_callers_are_told_apart_only_where_nodes_are(tmp_path):
    cluster = {"enabled": True}
    with pytest.raises(ValidationError, match=r"cluster\.key"):
        Settings(data_dir=tmp_path, cluster=cluster, auth={"api_keys": True})
    Settings(data_dir=tmp_path, cluster=cluster | {"key": KEY}, auth={"api_keys": True})
    with pytest.raises(ValidationError, match="found both"):
        Settings(data_dir=tmp_path, cluster=cluster | {"key": KEY, "key_file": tmp_path / "key"})


def test_of_several_keys_the_first_is_shown_and_any_is_accepted(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n{KEY[::-1]}\n")
    keys = NodeKeys.of(ClusterSettings(key_file=file))
    assert keys.shown() == (("des-node-key", KEY),)
    keys.check([("des-node-key", KEY[::-1])])
    file.write_text("short\n")
    for bad in (ClusterSettings(key_file=file), ClusterSettings(key_file=tmp_path / "none")):
        with pytest.raises(ClusterKeyError):
            NodeKeys.of(bad)
    file.write_text("\n")
    with pytest.raises(ClusterKeyError, match="holds no key"):
        NodeKeys.of(ClusterSettings(key_file=file))


@pytest.mark.timeout(120)
async def test_nodes_trust_an_authority_that_came_after_they_were_started(secured, tmp_path):
    cluster, _, _, _ = secured
    first, second, third = cluster.members
    (tmp_path / "later").mkdir()
    later = Authority(tmp_path / "later", "later")
    cert, key = later.issue(tmp_path / "later", "node", *HERE)
    paths = first.server.settings.tls, first.server.settings.cluster.ca
    both = paths[1].read_bytes() + later.path.read_bytes()

    # Files that cannot be used change nothing.
    paths[1].write_bytes(b"no certificate")
    await asyncio.sleep(LOOK_S + 0.1)
    async with cluster.client(0) as client:
        [name] = await cluster.names_at(second, 1, client)
        await client.put(b"before", name=name)

    paths[1].write_bytes(both)
    paths[0].cert.write_bytes(cert.read_bytes())
    paths[0].key.write_bytes(key.read_bytes())
    await asyncio.sleep(LOOK_S + 0.1)
    # A node that starts now shows the new certificate, of which the first one knew nothing at its start.
    await third.stop()
    await third.start()
    await cluster.settled()
    trusting = TlsConfig(ca=both, cert=cert.read_bytes(), key=key.read_bytes())
    async with cluster.client(0, tls=trusting) as client:
        for member in (second, third):
            [name] = await cluster.names_at(member, 1, client)
            await client.put(b"after", name=name)
            assert await client.get(name) == b"after"
