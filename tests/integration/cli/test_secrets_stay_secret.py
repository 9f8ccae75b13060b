"""Canaries in every secret that the settings take: they sing in no log, error, metric, report or page."""

import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from des.cli.exits import Exit

CANARY = "CANARY7f3a"
S3_KEY, S3_SECRET, S3_SESSION, REDIS, CATALOG, SOURCE = (
    f"{CANARY}{what}" for what in ("keyid", "secret", "session", "redis", "catalog", "source")
)
IMPATIENT = {"ATTEMPTS": "1", "DEADLINE_S": "2", "CONNECT_TIMEOUT_S": "1"}
CLOUDS = {
    "google's token": {"DES_OBJECT_STORE": "gs://bucket/prefix", "DES_GCS__TOKEN": f"{CANARY}token"},
    "azure's key": {
        "DES_OBJECT_STORE": "az://container/prefix",
        "DES_AZURE__ACCOUNT": "account",
        "DES_AZURE__ACCOUNT_KEY": f"{CANARY}accountkey0000",  # base 64, as a key is
    },
    "azure's signature": {
        "DES_OBJECT_STORE": "az://container/prefix",
        "DES_AZURE__ACCOUNT": "account",
        "DES_AZURE__SAS_TOKEN": f"sv=2022-11-02&sr=c&sp=rwl&sig={CANARY}signature%3D",
    },
}
SPOILED_CLOUDS = {
    "google's key is no key": {
        "DES_OBJECT_STORE": "gs://bucket",
        "DES_GCS__SERVICE_ACCOUNT_KEY": f'{{"private_key_id": "{CANARY}", "private_key": "{CANARY}"}}',
    },
    "google's key is no JSON": {"DES_OBJECT_STORE": "gs://bucket", "DES_GCS__SERVICE_ACCOUNT_KEY": CANARY},
    "two of google's": {
        "DES_OBJECT_STORE": "gs://bucket",
        "DES_GCS__SERVICE_ACCOUNT_KEY": CANARY,
        "DES_GCS__TOKEN": CANARY,
    },
    "azure's key is not base 64": {
        "DES_OBJECT_STORE": "az://container",
        "DES_AZURE__ACCOUNT": "account",
        "DES_AZURE__ACCOUNT_KEY": f"{CANARY} is not base 64!",
    },
    "two of azure's": {
        "DES_OBJECT_STORE": "az://container",
        "DES_AZURE__ACCOUNT_KEY": CANARY,
        "DES_AZURE__SAS_TOKEN": CANARY,
    },
}


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


def away(name, nobody):
    """Return settings of a cloud at whose address nobody answers."""
    group = "DES_GCS__" if "GCS" in str(CLOUDS[name]) else "DES_AZURE__"
    patience = {group + key: value for key, value in IMPATIENT.items()}
    return CLOUDS[name] | patience | {f"{group}ENDPOINT_URL": f"http://{nobody}"}


def everything_it_says(tmp_path, server):
    """Use a server in every way that must fail while its store is away; return all that anybody reads."""
    client = {"DES_ADDRESS": server.address}
    seen = ""
    for arguments in (
        ("put", "-", "--json"),
        ("put", "-", "--durability", "stored", "--timeout", "2"),
        ("cat", "DES_20260115_(000000000000_00)", "--timeout", "3"),
    ):
        ran = run(tmp_path, *arguments, stdin=b"data", **client)
        seen += (ran.stdout + ran.stderr).decode()
    for path in ("/metrics", "/health/ready", "/health", "/openapi.json", "/files/x", "/", "/status.json"):
        seen += page(server.http, path)
    server.terminate()
    return seen + server.log.read_text()


def test_a_server_whose_store_and_cache_are_away_tells_no_secret(tmp_path, make_server, secrets):
    seen = everything_it_says(tmp_path, make_server(secrets).start())
    assert "des_object_store" in seen
    assert CANARY not in seen


@pytest.mark.parametrize("cloud", [pytest.param(each, marks=pytest.mark.slow) for each in CLOUDS])
def test_a_server_whose_cloud_is_away_tells_no_secret(tmp_path, make_server, secrets, nobody, cloud):
    given = {key: value for key, value in secrets.items() if not key.startswith("DES_S3")}
    seen = everything_it_says(tmp_path, make_server(given | away(cloud, nobody)).start())
    assert "des_object_store" in seen
    assert CANARY not in seen


SEVERAL = """
import json, os, sys
from des.cli.main import app
for arguments, environment in json.load(sys.stdin):
    os.environ.update(environment)
    try:
        app(arguments, prog_name="des")
        code = 0
    except SystemExit as ended:
        code = ended.code
    for name in environment:
        del os.environ[name]
    print("ended with", int(code or 0), *arguments, flush=True)
"""


def test_commands_that_reach_for_a_cloud_tell_no_secret(tmp_path, nobody):
    """One process for all: each would import for a second or two."""
    local = {"DES_DATA_DIR": str(tmp_path / "data"), "DES_LOG_LEVEL": "debug"}
    runs = [(["config", "show"], away(cloud, nobody) | local) for cloud in CLOUDS]
    runs += [(["doctor"], away(cloud, nobody) | local) for cloud in CLOUDS]
    for what, spoiled in SPOILED_CLOUDS.items():
        group = "DES_GCS__" if "google" in what else "DES_AZURE__"
        runs.append((["doctor"], spoiled | {f"{group}ENDPOINT_URL": f"http://{nobody}"} | local))
    ran = subprocess.run(
        [sys.executable, "-c", SEVERAL],
        input=json.dumps(runs).encode(),
        capture_output=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("DES_")},
        timeout=110,
        check=True,
    )
    seen = (ran.stdout + ran.stderr).decode()
    codes = re.findall(r"^ended with (\d+)", seen, re.MULTILINE)
    assert codes[: len(CLOUDS)] == ["0"] * len(CLOUDS)
    assert len(codes) == len(runs)
    assert "0" not in codes[len(CLOUDS) :]
    assert CANARY not in seen


SOURCES = """
packer: {{idle_s: 0.2, backoff_max_s: 0.2}}
sources:
  docs:
    database:
      dialect: {dialect}
      host: 127.0.0.1
      port: {port}
      name: db
      user: user
      password: {secret}
      driver_options: {{{option}: {secret}}}
    table: documents
    columns: {{id: id, key: object_key, bucket: bucket}}
    status_values: {{pending: null}}
    objects:
      buckets: [docs]
      endpoint: "http://127.0.0.1:{port}"
      access_key: {secret}
      secret_key: {secret}
      session_token: {secret}
"""


@pytest.mark.parametrize(
    ("dialect", "option"),
    [("postgresql", "sslpassword"), pytest.param("mysql", "ssl_key_password", marks=pytest.mark.slow)],
)
def test_packer_marker_and_commands_of_sources_tell_no_secret(tmp_path, nobody, dialect, option):
    (tmp_path / "sources.yaml").write_text(
        SOURCES.format(dialect=dialect, option=option, port=nobody.rpartition(":")[2], secret=SOURCE)
    )
    ran = run(tmp_path, "sources", "check", "--sources", "sources.yaml")
    seen = ran.stdout + ran.stderr
    assert ran.returncode not in {Exit.OK, Exit.USAGE}, seen
    for command in (["des.cli.packer"], ["des.cli.marker", "run", "--http-listen", "", "--node-id", "7"]):
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--sources", "sources.yaml", "--log-level", "debug"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env=os.environ
            | {
                "DES_DATA_DIR": str(tmp_path / "data"),
                "DES_LISTEN": "127.0.0.1:0",
                "DES_HTTP_LISTEN": "",
            },
        )
        try:
            told = b""
            while b"docs" not in told:
                line = process.stdout.readline()
                assert line, told
                told += line
        finally:
            process.terminate()
            rest, _ = process.communicate(timeout=60)
        seen += told + rest
    assert SOURCE not in seen.decode()


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
