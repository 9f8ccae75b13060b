"""Canaries in every secret that the settings take: they sing in no log, error, metric, report or page."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from des.cli.exits import Exit

CANARY = "CANARY7f3a"
S3_KEY, S3_SECRET, S3_SESSION, REDIS, CATALOG = (
    f"{CANARY}{what}" for what in ("keyid", "secret", "session", "redis", "catalog")
)


@pytest.fixture
def nobody():
    """An address at which nobody answers: bound, and never listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def secrets(nobody):
    return {
        "DES_LOG_LEVEL": "debug",
        "DES_OBJECT_STORE": "s3://bucket/prefix",
        "DES_S3__ENDPOINT_URL": f"http://{nobody}",
        "DES_S3__ACCESS_KEY_ID": S3_KEY,
        "DES_S3__SECRET_ACCESS_KEY": S3_SECRET,
        "DES_S3__SESSION_TOKEN": S3_SESSION,
        "DES_S3__ATTEMPTS": "1",
        "DES_S3__DEADLINE_S": "2",
        "DES_S3__CONNECT_TIMEOUT_S": "1",
        "DES_CLUSTER__KEY": CANARY + "k" * 32,
        "DES_INDEX_CACHE": "redis",
        "DES_REDIS__URL": f"redis://user:{REDIS}@{nobody}/0",
    }


def run(tmp_path, *arguments, stdin=b"", command="des.cli", **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DES_", "AWS_"))}
    return subprocess.run(
        [sys.executable, "-m", command, *arguments],
        input=stdin,
        capture_output=True,
        cwd=tmp_path,
        env=inherited | {"DES_DATA_DIR": str(tmp_path / "data")} | environment,
        timeout=100,
        check=False,
    )


def page(address, path):
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.read().decode()


def test_a_server_whose_store_and_cache_are_away_tells_no_secret(tmp_path, make_server, secrets):
    server = make_server(secrets).start()
    client = {"DES_ADDRESS": server.address}
    seen = ""
    for arguments in (
        ("put", "-", "--json"),
        ("put", "-", "--durability", "stored", "--timeout", "2"),
        ("cat", "DES_20260115_(000000000000_00)", "--timeout", "3"),
    ):
        ran = run(tmp_path, *arguments, stdin=b"data", **client)
        seen += (ran.stdout + ran.stderr).decode()
    for path in ("/metrics", "/health/ready", "/health", "/openapi.json", "/files/x", "/"):
        seen += page(server.http, path)
    server.terminate()
    seen += server.log.read_text()
    assert "des_object_store" in seen
    assert CANARY not in seen


@pytest.mark.parametrize(
    ("arguments", "catalog"),
    [
        (("config", "show"), f"postgresql://user:{CATALOG}@NOBODY/des"),
        (("doctor",), f"postgresql://user:{CATALOG}@NOBODY/des"),
        (("fsck",), ""),
    ],
)
def test_commands_that_read_the_settings_tell_no_secret(tmp_path, secrets, nobody, arguments, catalog):
    ran = run(tmp_path, *arguments, **secrets, DES_CATALOG_URL=catalog.replace("NOBODY", nobody))
    assert CANARY not in (ran.stdout + ran.stderr).decode()
    assert ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "spoiled",
    [
        {"DES_CATALOG_URL": f"postgresql://user:{CATALOG}@NOBODY/des"},
        {"DES_CATALOG_URL": f"nonsense://user:{CATALOG}@NOBODY/des"},
        {"DES_CATALOG_URL": f"postgresql://user:{CATALOG}@NOBODY:port/des"},
        {"DES_REDIS__URL": f"nonsense://user:{REDIS}@NOBODY/0"},
        {"DES_S3__SECRET_ACCESS_KEY": S3_SECRET, "DES_S3__ACCESS_KEY_ID": ""},
        {"DES_S3__SECRET_ACCESS_KEY": S3_SECRET, "DES_S3__ATTEMPTS": "0"},
    ],
)
def test_a_start_that_fails_tells_no_secret(tmp_path, secrets, nobody, spoiled):
    changed = {name: value.replace("NOBODY", nobody) for name, value in spoiled.items()}
    local = {"DES_LISTEN": "127.0.0.1:0", "DES_HTTP_LISTEN": "", "DES_OBJECT_STORE": "s3://bucket"}
    for command in ("des.cli", "des_server") if "DES_CATALOG_URL" not in spoiled else ("des.cli",):
        ran = run(
            tmp_path,
            *(["serve"] if command == "des.cli" else []),
            command=command,
            **secrets | local | changed,
        )
        assert ran.returncode not in {Exit.OK, -9}
        assert ran.stderr
        assert CANARY not in (ran.stdout + ran.stderr).decode()
