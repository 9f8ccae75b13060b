"""Images, compose file, manifests, units: no engine runs here, linters and these rules do.

`scripts/install_lint_tools.sh .tools/lint` brings the linters; without them their tests are skipped.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from des.config import Settings, load_settings
from des.sources import load_sources

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
COMPOSE = DOCKER / "compose.yaml"
K8S = DOCKER / "k8s"
UNITS = sorted((DOCKER / "systemd").glob("*.service"))
BASE = [
    document
    for path in [*sorted((K8S / "base").glob("*.yaml")), K8S / "ingest" / "ingest.yaml"]
    for document in yaml.safe_load_all(path.read_text())
    if document
]
PODS = [one for one in BASE if one["kind"] in {"StatefulSet", "Deployment"}]


def lint(tool, *arguments):
    path = ROOT / ".tools" / "lint" / "bin" / tool
    if not path.exists():
        pytest.skip(f"needs {tool}: scripts/install_lint_tools.sh .tools/lint")
    run([path, *arguments])


def run(command, **more):
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, **more)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


# --- images -------------------------------------------------------------------------------------


def test_hadolint_finds_nothing():
    lint("hadolint", DOCKERFILE)


def stages():
    """Return what each stage of the Dockerfile says, by name."""
    text = DOCKERFILE.read_text()
    parts = re.split(r"^FROM (\S+) AS (\S+)$", text, flags=re.MULTILINE)[1:]
    return {name: body for _, name, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


@pytest.mark.parametrize("name", ["server", "packer", "marker"])
def test_an_image_runs_as_nobody_special_and_can_be_asked_how_it_is(name):
    found = stages()
    assert "USER 10001:10001" in found["base"]
    assert "HEALTHCHECK" in found[name]
    assert f'ENTRYPOINT ["des-{name}"]' in found[name]
    assert "insecure" not in DOCKERFILE.read_text()
    assert not re.search(r"(?i)password|secret|token", DOCKERFILE.read_text())


def test_commands_and_extras_of_the_images_exist():
    project = (ROOT / "pyproject.toml").read_text()
    for name in ("des", "des-server", "des-packer", "des-marker"):
        assert re.search(rf"^{name} = ", project, re.MULTILINE)
    for extras in re.findall(r"des-store\[([^\]]+)\]", DOCKERFILE.read_text()):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_what_the_build_copies_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    for name in " ".join(copied).split():
        assert f"!{name}" in ignored, name
        assert (ROOT / name).exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_steps_of_the_build_make_commands_that_run(tmp_path):
    """The RUN lines, in a folder in place of an image."""
    source = tmp_path / "src"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("des", "server", "proto", "client"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    found = stages()
    for name, command in (("server", "des-server"), ("packer", "des-packer"), ("marker", "des-marker")):
        for stage in ("build", f"{name}-env"):
            if stage == "build" and (tmp_path / "wheels").exists():
                continue
            for step in re.findall(r"^RUN ((?:.*\\\n)*.*)$", found[stage], re.MULTILINE):
                here = step.replace("/opt/des", str(tmp_path / name)).replace(
                    "/wheels", str(tmp_path / "wheels")
                )
                here = here.replace("python -m venv", f"{sys.executable} -m venv")
                run(["bash", "-euc", here], cwd=source)
        assert run([tmp_path / name / "bin" / command, "--help"])
        assert run([tmp_path / name / "bin" / "des", "health", "--help"])


# --- compose ------------------------------------------------------------------------------------


def compose():
    return yaml.safe_load(COMPOSE.read_text())


def test_the_compose_file_follows_the_specification():
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_every_port_of_the_compose_file_is_on_loopback():
    services = compose()["services"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_settings_of_the_compose_file_are_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith("DES_")]:
        monkeypatch.delenv(name)
    for name in ("server", "packer", "marker"):
        service = compose()["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["build"]["target"] in stages()
        with monkeypatch.context() as patched:
            for key, value in service["environment"].items():
                patched.setenv(key, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)))
            assert load_settings().object_store == "s3://des"


def test_what_the_compose_file_mounts_and_builds_exists():
    for service in compose()["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), source
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).exists()


# --- Kubernetes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", ["base", "in-mesh", "ingest", "monitoring"])
def test_what_is_applied_follows_the_schemas(overlay, tmp_path):
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl to build the overlay (Debian: apt-get install kubernetes-client)")
    built = tmp_path / "built.yaml"
    built.write_text(
        run(["kubectl", "kustomize", "--load-restrictor", "LoadRestrictionsNone", K8S / overlay])
    )
    lint("kubernetes-validate", "--strict", "--no-warn", "-k", "1.33", built)


def test_every_manifest_follows_the_schemas():
    paths = [
        path
        for path in sorted(K8S.rglob("*.yaml"))
        if ("kustom" not in path.name and path.name not in {"server.yaml", "sources.yaml"})
        or path.parent.name == "base"
    ]
    lint("kubernetes-validate", "--strict", "--no-warn", "-k", "1.33", *paths)


@pytest.mark.parametrize("workload", PODS, ids=lambda one: one["metadata"]["name"])
def test_a_pod_may_do_nothing_and_stops_after_its_drain(workload):
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    settings = node_settings("base/config/server.yaml")
    stopping = settings.drain_notice_s + settings.drain_s * 1.5  # half of it again to hand shards over
    assert pod["terminationGracePeriodSeconds"] > stopping
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    named = {volume["name"] for volume in pod["volumes"]}
    named |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
    assert {mount["name"] for mount in container["volumeMounts"]} <= named


def node_settings(path):
    raw = yaml.safe_load((K8S / path).read_text())
    return Settings(
        **raw,
        catalog_url="postgresql://x@y/z",
        redis={"url": "redis://x"},
    )


def test_every_node_has_a_budget_and_every_pod_is_behind_a_policy():
    budgets = [one["spec"]["selector"] for one in BASE if one["kind"] == "PodDisruptionBudget"]
    nodes = [one["spec"]["selector"] for one in PODS if one["kind"] == "StatefulSet"]
    assert len(nodes) == 2
    assert all(selector in budgets for selector in nodes)
    assert {} in [one["spec"]["podSelector"] for one in BASE if one["kind"] == "NetworkPolicy"]


def test_the_settings_of_the_manifests_are_settings_and_secure():
    secure = node_settings("base/config/server.yaml")
    assert secure.tls.cert is not None
    assert secure.authenticates
    node_settings("in-mesh/server.yaml")
    assert load_sources(K8S / "ingest/sources.yaml", {"DOCUMENTS_PASSWORD": "x"}).enabled


def test_packers_scale_by_a_metric_that_exists():
    [scaler] = yaml.safe_load_all((K8S / "monitoring/hpa.yaml").read_text())
    [metric] = scaler["spec"]["metrics"]
    assert f"`{metric['pods']['metric']['name']}`" in (ROOT / "docs" / "metrics.md").read_text()


# --- systemd ------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_right_and_exposes_little(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian: apt-get install systemd)")
    here = tmp_path / unit.name
    # The user and the folder of the program are those of a machine that was set up.
    text = unit.read_text().replace("/opt/des/bin/", f"{Path(sys.executable).parent}/")
    here.write_text(re.sub(r"^(User|Group)=des$", r"\1=daemon", text, flags=re.MULTILINE))
    run(["systemd-analyze", "verify", "--man=no", here])
    run(["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", here])


def test_units_stop_after_the_drain():
    for unit in UNITS:
        [stop] = re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
        assert int(stop) > Settings().drain_s * 1.5
