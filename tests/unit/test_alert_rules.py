"""Alert rules as Prometheus reads them: each rings for the node that is ill, and not for the one beside it.

`scripts/install_promtool.sh .tools/promtool` brings promtool; without it these tests are skipped.
"""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMTOOL = ROOT / ".tools" / "promtool" / "bin" / "promtool"
FOLDER = ROOT / "docker" / "prometheus"
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}
ILL, WELL = "ill:7421", "well:7421"
GRPC = 'grpc_service="des.v1.FileService",grpc_method="GetFile"'
LENGTH = 60
"""Minutes of a story; there is a sample in each."""


def promtool(*arguments):
    if not PROMTOOL.exists():
        pytest.skip("needs promtool: scripts/install_promtool.sh .tools/promtool")
    ran = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def always(value):
    return f"{value}+0x{LENGTH}"


def each_minute(step):
    return f"0+{step}x{LENGTH}"


@dataclass
class Story:
    """What two nodes show, and what is said of the one."""

    summary: str
    ill: dict
    well: dict
    """Series, as name{labels} without the instance, and their values."""
    labels: dict = field(default_factory=dict)
    """Of the alert, beside instance and severity."""


def gauge(name, bad, good, summary, **labels):
    inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
    series = f"{name}{{{inner}}}"
    return Story(summary, {series: always(bad)}, {series: always(good)}, labels)


def counter(name, bad, good, summary, labels, kept=()):
    inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
    series = f"{name}{{{inner}}}"
    return Story(
        summary, {series: each_minute(bad)}, {series: each_minute(good)}, {key: labels[key] for key in kept}
    )


def slow(name, inner, fast_le, slow_le, summary, **labels):
    def spread(fast):
        return {
            f'{name}{{{inner}le="{fast_le}"}}': each_minute(fast),
            f'{name}{{{inner}le="{slow_le}"}}': each_minute(100),
            f'{name}{{{inner}le="+Inf"}}': each_minute(100),
        }

    return Story(summary, spread(90), spread(100), labels)


def of_calls(failed, code):
    return {
        f'grpc_server_handled_total{{{GRPC},grpc_code="{code}"}}': each_minute(failed),
        f'grpc_server_handled_total{{{GRPC},grpc_code="OK"}}': each_minute(1000 - failed),
    }


def log_of(*, bytes_used, records):
    """Return the series of a log that may hold 100 bytes and 1000 records."""
    return {
        "des_log_bytes{}": always(bytes_used),
        "des_log_budget_bytes{}": always(100),
        "des_log_records{}": always(records),
        "des_log_max_records{}": always(1000),
    }


STORIES = {
    "DesDown": gauge("up", 0, 1, f"{ILL} does not answer Prometheus", job="des"),
    "DesNotWritable": gauge("des_writable", 0, 1, f"{ILL} takes no files"),
    "DesNotReadable": gauge("des_readable", 0, 1, f"{ILL} gives no files"),
    "DesManyErrors": Story(
        f"more than 2 % of the calls to {ILL} fail on the server's side",
        of_calls(30, "Unavailable"),
        of_calls(10, "Unavailable") | of_calls(300, "NotFound"),  # what a caller asks wrongly is no failure
    ),
    "DesSlowCalls": slow(
        "grpc_server_handling_seconds_bucket", f"{GRPC},", "2.5", "10",
        f"GetFile at {ILL} takes more than 2.5 s at the 99th percentile", grpc_method="GetFile",
    ),
    "DesLoopBlocked": gauge(
        "des_loop_lag_seconds", 0.3, 0.2, f"the event loop of {ILL} is late by more than 250 ms"
    ),
    "DesWorkerAway": Story(
        f"3 workers of {ILL} serve, fewer than there shall be",
        {"des_workers_serving{}": always(3), "des_workers{}": always(4)},
        {"des_workers_serving{}": always(4), "des_workers{}": always(4)},
    ),
    "DesDatabaseAway": gauge(
        "des_health_check_up", 0, 0.5, f"{ILL} does not reach its catalog", check="database"
    ),
    "DesObjectStoreAway": gauge(
        "des_health_check_up", 0, 0.5, f"{ILL} does not reach its object store", check="object_store"
    ),
    "DesShardLocksLapsed": gauge(
        "des_shard_locks_lapsed", 2, 0, f"{ILL} could not renew 2 of its shard locks"
    ),
    "DesSourceAway": gauge(
        "des_ingest_source_up", 0, 1, f"source docs does not answer {ILL}", source="docs"
    ),
    "DesLogFailed": gauge(
        "des_log_failed", 1, 0, f"the ingest log of {ILL} failed; it takes no files until a restart"
    ),
    "DesLogDamaged": gauge(
        "des_recovery_damaged_places", 1, 0, f"{ILL} found damage in its ingest log when it started"
    ),
    "DesLogNearlyFull": Story(
        f"the ingest log of {ILL} has used more than 85 % of its budget",
        log_of(bytes_used=86, records=10),
        log_of(bytes_used=84, records=840),
    ),
    "DesDiskNearlyFull": gauge(
        "des_health_check_up", 0.5, 1, f"the disk of {ILL} may not hold what the log may take", check="disk"
    ),
    "DesFilesNotSealed": gauge(
        "des_log_oldest_unstored_seconds", 30_000, 28_000,
        f"{ILL} holds a file that no seal has taken for 8h 20m 0s",
    ),
    "DesSealsFail": counter(
        "des_seals_total", 1, 0, f"seals of {ILL} fail and are repeated", {"outcome": "failed"}
    ),
    "DesShippingFails": Story(
        f"puts with durability stored wait at {ILL}: the object store does not take them",
        {"des_shipping_failures_total{}": each_minute(1), "des_stored_waiting_files{}": always(5)},
        {"des_shipping_failures_total{}": each_minute(1), "des_stored_waiting_files{}": always(0)},
    ),
    "DesDataLoss": Story(
        f"{ILL} read bytes that do not match their checksum", of_calls(1, "DataLoss"), of_calls(0, "DataLoss")
    ),
    "DesSlowSync": slow(
        "des_log_sync_seconds_bucket", "", "0.25", "1",
        f"syncs of the log of {ILL} take more than 250 ms at the 99th percentile",
    ),
    "DesRowsFail": counter(
        "des_ingest_rows_total", 1, 0, "rows of source docs can never be packed",
        {"outcome": "failed", "source": "docs"}, kept=["source"],
    ),
    "DesGarbageStays": counter(
        "des_gc_failures_total", 1, 0, f"{ILL} refused or failed to collect garbage", {}
    ),
    "DesExposed": gauge(
        "des_insecure_plaintext", 1, 0,
        f"{ILL} is reachable from other machines without both TLS and authentication",
    ),
}  # fmt: skip

OTHER_HALVES = {
    "DesLogNearlyFull": Story(
        f"the ingest log of {ILL} has used more than 85 % of its budget",
        log_of(bytes_used=10, records=860),
        log_of(bytes_used=84, records=840),
    ),
    "DesSourceAway": gauge(
        "des_marker_source_up", 0, 1, f"source docs does not answer {ILL}", source="docs"
    ),
    "DesRowsFail": counter(
        "des_marker_rows_total", 1, 0, "rows of source docs can never be packed",
        {"outcome": "failed", "source": "docs"}, kept=["source"],
    ),
}  # fmt: skip
"""Of the rules with an `or`: what its second side rings for alone."""


def at(series, instance):
    """Return a series with its instance."""
    name, inner = series[:-1].split("{")
    return f'{name}{{{inner},instance="{instance}"}}' if inner else f'{name}{{instance="{instance}"}}'


def as_test(alert, story):
    """Return promtool's form of a story: at its end one alert, at its first minute none that has a `for`."""
    rule = RULES[alert]
    series = [
        {"series": at(one, instance), "values": values}
        for instance, told in ((ILL, story.ill), (WELL, story.well))
        for one, values in told.items()
    ]
    rings = {
        "exp_labels": story.labels | {"instance": ILL} | rule["labels"],
        "exp_annotations": {"summary": story.summary, "runbook_url": f"docs/runbook.md#{alert.lower()}"},
    }
    times = [{"eval_time": f"{LENGTH}m", "alertname": alert, "exp_alerts": [rings]}]
    if "for" in rule:
        times.append({"eval_time": "30s", "alertname": alert, "exp_alerts": []})
    return {"name": alert, "interval": "1m", "input_series": series, "alert_rule_test": times}


def test_prometheus_takes_rules_and_settings():
    assert f"{len(RULES)} rules found" in promtool("check", "rules", FOLDER / "alerts.yaml")
    assert "valid prometheus config" in promtool("check", "config", FOLDER / "prometheus.yaml")


def test_every_alert_rings_for_the_node_that_is_ill_and_for_no_other(tmp_path):
    assert STORIES.keys() == RULES.keys()
    assert OTHER_HALVES.keys() == {alert for alert, rule in RULES.items() if " or " in rule["expr"]}
    told = {
        "rule_files": [str(FOLDER / "alerts.yaml")],
        "evaluation_interval": "1m",
        "tests": [as_test(alert, story) for alert, story in [*STORIES.items(), *OTHER_HALVES.items()]],
    }
    (tmp_path / "stories.yaml").write_text(yaml.safe_dump(told))
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "stories.yaml")
