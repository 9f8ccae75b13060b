"""The command over TLS, with API keys: server and command are processes of their own."""

import os
import subprocess
import sys

import pytest
from des_client import DesClient, TlsConfig

from des.cli.exits import Exit
from des.testing.authority import HERE, Authority


class Secured:
    """A server with TLS and API keys, and `des` as its users run it."""

    def __init__(self, folder, make_server):
        self.folder = folder
        self.authority = Authority(folder, "authority")
        cert, key = self.authority.issue(folder, "server", *HERE)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("DES_")}
        self.server = make_server(
            {
                "DES_AUTH__API_KEYS": "true",
                "DES_TLS__CERT": str(cert),
                "DES_TLS__KEY": str(key),
                "DES_AUTH__AUDIT_FILE": str(folder / "audit.jsonl"),
                # Every address of the machine: refused without TLS and authentication.
                "DES_LISTEN": "0.0.0.0:0",
            }
        )
        self.server.listen = "0.0.0.0:0"
        self.server.start()
        self.address = f"127.0.0.1:{self.server.address.rpartition(':')[2]}"

    def key(self, *arguments):
        made = self.des("keys", "create", "--data-dir", self.server.data_dir, *arguments)
        assert made.returncode == Exit.OK, made.stderr
        return made.stdout.decode().split()[-1]

    def des(self, *arguments, stdin=b"", **environment):
        return subprocess.run(
            [sys.executable, "-m", "des.cli", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=self.environment | {"DES_ADDRESS": getattr(self, "address", "")} | environment,
            timeout=100,
            check=False,
        )


@pytest.fixture
def secured(tmp_path, make_server):
    return Secured(tmp_path, make_server)


def test_files_go_in_and_out_over_tls_with_a_key(secured):
    key = secured.key("--verbs", "write,read,list", "--prefix", "TEAM_")
    mine = {"DES_TOKEN": key, "DES_CA": str(secured.authority.path)}
    stored = secured.des("put", "-", "--prefix", "TEAM", stdin=b"hello", **mine)
    assert stored.returncode == Exit.OK, stored.stderr
    (name,) = [word for word in stored.stdout.decode().split() if word.startswith("TEAM_")]
    assert name in secured.des("find", "--prefix", "TEAM_", **mine).stdout.decode()
    assert secured.des("cat", name, **mine).stdout == b"hello"

    for token, told in {"": b"no credentials", "des_00_nothing": b"API key is not known"}.items():
        refused = secured.des("cat", name, **mine | {"DES_TOKEN": token})
        assert (refused.returncode, refused.stdout) == (Exit.FAILED, b"")
        assert told in refused.stderr
    assert secured.des("rm", name, **mine).returncode == Exit.FAILED  # not granted
    other = secured.key("--verbs", "read", "--prefix", "OTHER_")
    assert secured.des("cat", name, **mine | {"DES_TOKEN": other}).returncode == Exit.FAILED
    assert secured.des("cat", name, **mine).stdout == b"hello"

    # An authority that did not sign the server's certificate, and no TLS at all.
    stranger = Authority(secured.folder, "stranger")
    for way in ({"DES_CA": str(stranger.path)}, {"DES_CA": ""}):
        away = secured.des("cat", name, "--timeout", "3", **mine | way)
        assert away.returncode in {Exit.UNAVAILABLE, Exit.DEADLINE}, away.stderr
        assert key.encode() not in away.stderr + away.stdout

    secured.des("keys", "revoke", key.split("_")[1], "--data-dir", secured.server.data_dir)
    assert secured.des("cat", name, **mine).returncode == Exit.FAILED

    seen = secured.server.log.read_text() + (secured.folder / "audit.jsonl").read_text()
    assert key not in seen
    assert key.split("_", 2)[2] not in seen


def test_a_client_with_a_callable_token_goes_on_with_a_new_key(secured):
    keys = [secured.key("--verbs", "assign,write,read") for _ in range(2)]
    asked = []

    def token():
        asked.append(keys[0])
        return keys[0]

    tls = TlsConfig(ca=secured.authority.path)
    with DesClient(secured.address, token=token, tls=tls, timeout_s=60) as client:
        name = client.put(b"x").file.name
        secured.des("keys", "revoke", keys[0].split("_")[1], "--data-dir", secured.server.data_dir)
        keys.pop(0)
        assert client.get(name) == b"x"
    assert len(set(asked)) == 2
