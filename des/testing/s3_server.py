"""Real S3 servers for tests: moto's everywhere, and versitygw where it is installed."""

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from des.config import S3Settings
from des.testing.ports import free_port

ACCESS_KEY: Final = "test-access-key"
SECRET_KEY: Final = "test-secret-key"  # noqa: S105  of a server on loopback that lives for one test run
BUCKET: Final = "des-test"
START_S: Final = 60


def settings_for(endpoint_url: str) -> S3Settings:
    """Return settings that reach a server of this module; impatient, since it is on this machine."""
    return S3Settings(
        endpoint_url=endpoint_url,
        region="us-east-1",
        access_key_id=SecretStr(ACCESS_KEY),
        secret_access_key=SecretStr(SECRET_KEY),
        connections=20,
        part_bytes=5 << 20,  # type: ignore[arg-type]  # as pydantic takes it
    )


@contextmanager
def temporary_moto() -> Iterator[S3Settings]:
    """Run moto's server in this process, on a real socket, with `BUCKET` in it."""
    for module, wheel in (("moto", "moto[server]"), ("boto3", "boto3"), ("obstore", "obstore")):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"no S3 server: pip install '{wheel}'")
    server = importlib.import_module("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        settings = settings_for(f"http://127.0.0.1:{port}")
        make_bucket(settings)
        yield settings
    finally:
        server.stop()


@contextmanager
def temporary_versitygw(directory: Path) -> Iterator[S3Settings]:
    """Run versitygw over `directory` with `BUCKET` in it; skip the test where it is not installed."""
    command = versitygw()
    if command is None:
        pytest.skip("no versitygw: scripts/s3_server.sh install (needs Go)")
    port = free_port()
    root = directory / "objects"
    root.mkdir(parents=True)
    (directory / "attributes").mkdir()
    with (directory / "versitygw.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  the command is versitygw
            [command, "--port", f"127.0.0.1:{port}", "--access", ACCESS_KEY, "--secret", SECRET_KEY,
             "--quiet", "--keep-alive", "posix", "--sidecar", str(directory / "attributes"), str(root)],
            stdout=log,
            stderr=log,
        )  # fmt: skip
    try:
        settings = settings_for(f"http://127.0.0.1:{port}")
        _wait_for(settings.endpoint_url, process, directory / "versitygw.log")
        make_bucket(settings)
        yield settings
    finally:
        process.terminate()
        process.wait(START_S)


@contextmanager
def temporary_s3(directory: Path) -> Iterator[tuple[S3Settings, bool]]:
    """Run the stronger server where it is installed, else moto's; True for one that verifies no checksums."""
    if versitygw() is None:
        with temporary_moto() as settings:
            yield settings, True
    else:
        with temporary_versitygw(directory) as settings:
            yield settings, False


@contextmanager
def temporary_s3_process(directory: Path) -> Iterator[S3Settings]:
    """Run the stronger server where it is installed, else moto's, as a process that takes nobody's turns."""
    if versitygw() is not None:
        with temporary_versitygw(directory) as settings:
            yield settings
        return
    settings = settings_for(f"http://127.0.0.1:{free_port()}")
    host, port = settings.endpoint_url.removeprefix("http://").split(":")
    log = directory / "moto.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  the command is Python's
            [sys.executable, "-m", "moto.server", "-H", host, "-p", port], stdout=output, stderr=output
        )
    try:
        _wait_for(settings.endpoint_url, process, log)
        make_bucket(settings)
        yield settings
    finally:
        process.terminate()
        process.wait(START_S)


def versitygw() -> str | None:
    """Return the command: the one of `DES_VERSITYGW`, of scripts/s3_server.sh, or of the path."""
    tools = Path(__file__).parents[2] / ".tools" / "go" / "bin" / "versitygw"
    for found in (os.environ.get("DES_VERSITYGW"), str(tools), "versitygw"):
        if found and (command := shutil.which(found)):
            return command
    return None


def make_bucket(settings: S3Settings, bucket: str = BUCKET) -> None:
    """Make a bucket."""
    from des.storage.s3_client import S3Client  # noqa: PLC0415  the extra `s3`

    client = S3Client(bucket, settings)
    client.client.create_bucket(Bucket=bucket)
    client.client.close()


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310  http, on loopback
        except urllib.error.HTTPError:
            return  # It speaks HTTP; that it wants credentials is right.
        except OSError:
            assert process.poll() is None, f"the S3 server ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"the S3 server does not answer: {log.read_text()[-2000:]}"
            time.sleep(0.1)
        else:
            return
