"""The stack for users names settings that exist, and an S3 server whose version the tests know."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from des.config import load_settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def stack() -> Any:
    return yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())


def test_the_servers_variables_are_settings(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack["services"]["server"]["environment"].items():
        if name.startswith("DES_"):
            monkeypatch.setenv(name, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value))
    settings = load_settings()
    assert settings.object_store == "s3://des"
    assert settings.s3.endpoint_url == "http://s3:7070"
    assert settings.s3.secret_access_key.get_secret_value() == "des-secret-key"
    assert settings.catalog_url == "postgresql://des:des-password@postgres/des"


def test_every_service_is_waited_for_and_every_port_is_on_loopback(stack: Any) -> None:
    services = stack["services"]
    assert {"server", "postgres", "redis", "s3"} <= set(services)
    for name in services["server"]["depends_on"]:
        assert "healthcheck" in services[name]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_s3_server_is_the_one_of_the_script(stack: Any) -> None:
    script = (ROOT / "scripts" / "s3_server.sh").read_text()
    version = re.search(r"VERSITYGW_VERSION:-(v[\d.]+)", script)
    assert version is not None
    assert stack["services"]["s3"]["image"] == f"versity/versitygw:{version[1]}"
