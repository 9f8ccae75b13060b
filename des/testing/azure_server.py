"""A real Azure Blob server for tests: azurite, where it is installed (scripts/azure_server.sh)."""

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from des.config import AzureSettings
from des.testing.ports import free_port

CONTAINER: Final = "des-test"
ACCOUNT: Final = "devstoreaccount1"
ACCOUNT_KEY: Final = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""The account that every azurite has, as its documentation gives it."""
START_S: Final = 120


def settings_for(endpoint_url: str) -> AzureSettings:
    """Return settings that reach azurite at `endpoint_url`, which ends with the account."""
    return AzureSettings(
        endpoint_url=endpoint_url,
        account=ACCOUNT,
        account_key=SecretStr(ACCOUNT_KEY),
        part_bytes=5 << 20,  # type: ignore[arg-type]  # as pydantic takes it
    )


@contextmanager
def temporary_azurite(directory: Path) -> Iterator[AzureSettings]:
    """Run azurite over `directory` with `CONTAINER` in it; skip the test where it is not installed."""
    command = azurite()
    if command is None:
        pytest.skip("no azurite: scripts/azure_server.sh install (needs npm)")
    pytest.importorskip("obstore", reason="no Azure: pip install obstore")
    port = free_port()
    objects = directory / "objects"
    objects.mkdir(parents=True)
    log = directory / "azurite.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  the command is azurite
            [command, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(objects),
             "--silent", "--disableTelemetry", "--skipApiVersionCheck"],
            stdout=output,
            stderr=output,
        )  # fmt: skip
    try:
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        deadline = time.monotonic() + START_S
        while not _made_container(endpoint, CONTAINER):
            assert process.poll() is None, f"azurite ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"azurite does not answer: {log.read_text()[-2000:]}"
            time.sleep(0.1)
        yield settings_for(endpoint)
    finally:
        process.terminate()
        process.wait(START_S)


def azurite() -> str | None:
    """Return the command: the one of `DES_AZURITE`, of scripts/azure_server.sh, or of the path."""
    tools = Path(__file__).parents[2] / ".tools" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    for found in (os.environ.get("DES_AZURITE"), str(tools), "azurite-blob"):
        if found and (command := shutil.which(found)):
            return command
    return None


def _made_container(endpoint: str, container: str) -> bool:
    """Make a container, which obstore cannot; False while nobody listens."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    named = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    resource = f"/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container"
    signed = f"PUT{chr(10) * 12}{named}{resource}".encode()
    proof = hmac.new(base64.b64decode(ACCOUNT_KEY), signed, hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(proof).decode()}"
    request = urllib.request.Request(  # noqa: S310  http, on loopback
        f"{endpoint}/{container}?restype=container", method="PUT", headers=headers
    )
    try:
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310  http, on loopback
    except urllib.error.HTTPError as error:
        if error.code == 409:  # It is there: an answer to an earlier call was lost.
            return True
        if error.code >= 500:  # It is not ready yet.
            return False
        raise
    except OSError:
        return False
    return True
