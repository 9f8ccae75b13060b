"""Every alert has its section, and no section is about an alert that is gone."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ALERTS = {
    rule["alert"]
    for group in yaml.safe_load((ROOT / "docker" / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
SECTIONS = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]


def test_every_alert_has_a_section_and_every_section_an_alert():
    assert {section.split("\n", 1)[0] for section in SECTIONS} == ALERTS
    assert len(SECTIONS) == len(ALERTS)


def test_every_section_says_something():
    assert all(len(section) > 150 for section in SECTIONS)


def test_settings_and_series_that_the_runbook_names_exist():
    metrics = (ROOT / "docs" / "metrics.md").read_text()
    for series in set(re.findall(r"`((?:des|grpc)_[a-z_]+)`", RUNBOOK)):
        assert f"`{series}" in metrics, series
    known = (ROOT / "configs" / "server.example.yaml").read_text()
    for group, key in set(re.findall(r"`(log|seal|gc|stored|cluster|catalog|limits)\.([a-z_]+)`", RUNBOOK)):
        assert re.search(rf"^{group}:.*?^  {key}:", known, re.MULTILINE | re.DOTALL), (group, key)
