"""Variables that begin like settings and are none are told by name, with what may have been meant."""

import re
from pathlib import Path

import pytest
import yaml

from des.config import Settings, load_settings
from des.config.variables import known_keys, service_links, stray_variables, variable_of

ROOT = Path(__file__).parents[3]

LINKS_OF_A_SERVICE = {
    "DES_SERVICE_HOST": "10.0.0.1",
    "DES_SERVICE_PORT": "7420",
    "DES_SERVICE_PORT_GRPC": "7420",
    "DES_SERVICE_PORT_HTTP": "7421",
    "DES_PORT": "tcp://10.0.0.1:7420",
    "DES_PORT_7420_TCP": "tcp://10.0.0.1:7420",
    "DES_PORT_7420_TCP_PROTO": "tcp",
    "DES_PORT_7420_TCP_PORT": "7420",
    "DES_PORT_7420_TCP_ADDR": "10.0.0.1",
}
"""What Kubernetes puts into every pod beside a Service called `des` (documentation of Kubernetes, "Service",
environment variables)."""


def strays(*names: str, used: tuple[str, ...] = ()) -> dict[str, str]:
    found = stray_variables(dict.fromkeys(names, "canary"), used=used)
    assert "canary" not in f"{found} {[str(one) for one in found]}"
    return {one.name: one.near for one in found}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("DES_LOG_SEGMENT_BYTES", "DES_LOG__SEGMENT_BYTES"),
        ("DES_DATADIR", "DES_DATA_DIR"),
        ("DES_NODE_IDS", "DES_NODE_ID"),
        ("DES_TOKN", "DES_TOKEN"),
        ("DES_LISTEN__PORT", ""),
        ("DES_PORT", ""),
        ("DES_", ""),
        ("des_s3_region", "DES_S3__REGION"),
    ],
)
def test_a_variable_that_names_nothing_is_told_with_its_nearest_setting(name: str, near: str) -> None:
    assert strays(name) == {name: near}


def test_every_setting_and_what_others_read_is_known() -> None:
    names = [variable_of(key) for key in known_keys(Settings)]
    assert "DES_SEAL__AGE_S" in names
    assert strays(*names, *(name.lower() for name in names)) == {}
    assert strays("DES_CONFIG", "DES_TOKEN", "DES_HTTP_ADDRESS", "DES_TEST_SEED", "PATH", "DESK_X") == {}
    assert strays("DES_SEAL__AGE") == {}  # refused when the settings are loaded
    assert strays("DES_SCANS_PASSWORD", used=("DES_SCANS_PASSWORD",)) == {}


def test_what_the_project_itself_reads_or_sets_is_known() -> None:
    compose = (ROOT / "docker" / "compose.yaml").read_text()
    services = yaml.safe_load(compose)["services"].values()
    names = {name for service in services for name in service.get("environment", {})}
    names.update(re.findall(r"\$\{(DES_\w+)", compose))
    code = "".join(path.read_text() for top in ("des", "server") for path in (ROOT / top).rglob("*.py"))
    names.update(re.findall(r'(?:environ\.get\(|environ\[|envvar=)"(DES_\w+)"', code))
    names.update(re.findall(r"^\| `(DES_\w+)`", (ROOT / "docs" / "http.md").read_text(), re.MULTILINE))
    assert {"DES_TOKEN", "DES_ADDRESS", "DES_DB_URL", "DES_S3_SECRET", "DES_VERSITYGW"} <= names
    assert strays(*names) == {}


def test_the_variables_of_a_kubernetes_service_are_no_settings_and_no_mistakes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = load_settings().model_dump()
    for name, value in LINKS_OF_A_SERVICE.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.replace("DES_", "DES_NODES_", 1), value)
    assert load_settings().model_dump() == before
    both = LINKS_OF_A_SERVICE | {
        name.replace("DES_", "DES_NODES_", 1): value for name, value in LINKS_OF_A_SERVICE.items()
    }
    assert stray_variables(both) == []
    assert set(service_links(both)) == set(both)


def test_no_setting_could_be_taken_for_a_variable_of_a_service() -> None:
    service = {"DES_SERVICE_HOST": "10.0.0.1", "DES_SERVICE_PORT": "7420"}
    settings = {variable_of(key): "x://" for key in known_keys(Settings)}
    assert set(service_links(service | settings)) == set(service)


def test_a_variable_like_a_services_that_somebody_set_is_told() -> None:
    assert [one.name for one in stray_variables({"DES_SERVICE_PORT": "7420", "DES_PORT": "7420"})] == [
        "DES_PORT",
        "DES_SERVICE_PORT",
    ]
    assert [one.name for one in stray_variables(LINKS_OF_A_SERVICE | {"DES_PORT": "7420"})] == ["DES_PORT"]
    assert [one.name for one in stray_variables(LINKS_OF_A_SERVICE | {"DES_PORTS": "1"})] == ["DES_PORTS"]
