"""What several workers tell, as one."""

from des_server.cluster.worker_metrics import merge_metrics
from des_server.cluster.worker_reports import merge_health, merge_histories, merge_status

SERIES = ("put_files", "put_bytes", "get_files", "get_bytes", "backlog_files", "backlog_bytes")


def check(name, state="ok"):
    return {"check": name, "state": state, "found": f"{name} is {state}", "advice": ""}


def ready(*checks, status="ready", cause=""):
    return {
        "status": status, "writable": status == "ready", "readable": True, "cause": cause, "version": "1",
        "degraded": [one["check"] for one in checks if one["state"] != "ok"], "checks": list(checks),
    }  # fmt: skip


def history(at_ms=(), **series):
    return {"at_ms": list(at_ms)} | {name: list(series.get(name, [0] * len(at_ms))) for name in SERIES}


def report(number, *checks, troubles=(), stale="", writable=True, **more):
    return {
        "now_ms": 100, "version": "1", "node": f"node-{number}", "store": "s", "started_ms": 10 + number,
        "health": {
            "readable": True, "writable": writable, "cause": "" if writable else "log", "checks": list(checks)
        },
        "stale": stale, "grid": [], "totals": {}, "days": [],
        "nodes": [{"node": f"node-{n}", "this": n == number} for n in range(3)],
        "history": history(), "troubles": list(troubles),
    } | more  # fmt: skip


def test_all_are_ready_or_none_is():
    well = {0: ready(check("disk")), 1: ready(check("disk"))}
    assert merge_health(well, count=2)["status"] == "ready"
    absent = merge_health({0: ready(check("disk"))}, count=2)
    assert (absent["status"], absent["workers"], absent["readable"]) == ("not ready", 1, True)
    assert absent["cause"] == "1 of 2 workers do not answer"
    full = {
        0: ready(check("disk")),
        1: ready(check("disk", "failed"), status="not ready", cause="disk: full"),
    }
    told = merge_health(full, count=2)
    assert (told["status"], told["writable"], told["cause"]) == ("not ready", False, "worker 1: disk: full")
    assert told["degraded"] == ["disk"]
    assert [(one["worker"], one["state"]) for one in told["checks"]] == [(0, "ok"), (1, "failed")]


def test_nobody_answers():
    told = merge_health({}, count=2)
    assert (told["status"], told["readable"], told["workers"]) == ("not ready", False, 0)


def test_whom_the_workers_tell_no_cause_is_told_none():
    plain = {"status": "not ready", "writable": False, "readable": True}
    told = merge_health({0: plain, 1: ready(check("disk"))}, count=2)
    assert told == {"status": "not ready", "writable": False, "readable": True, "workers": 2}


def test_a_page_of_all_workers():
    first = report(0, check("disk"), check("log"), troubles=[{"at_ms": 5, "event": "a"}], stale="old")
    other = report(
        1,
        check("disk", "degraded"),
        check("log"),
        troubles=[{"at_ms": 9, "event": "b"}],
        totals={"shards": 4},
    )
    told = merge_status({0: first, 1: other}, count=2)
    assert (told["workers"], told["started_ms"], told["stale"], told["totals"]) == (2, 10, "", {"shards": 4})
    assert [(one["check"], one["state"], one.get("worker")) for one in told["health"]["checks"]] == [
        ("disk", "degraded", 1),
        ("log", "ok", None),
    ]
    assert [(one["event"], one["worker"]) for one in told["troubles"]] == [("b", 1), ("a", 0)]
    assert [(one["this"], one.get("worker")) for one in told["nodes"]] == [
        (True, 0),
        (True, 1),
        (False, None),
    ]
    assert told["health"]["writable"]


def test_a_page_says_who_is_absent():
    told = merge_status({0: report(0), 2: report(2, writable=False)}, count=3)
    assert not told["health"]["writable"]
    assert told["health"]["cause"] == "worker 2: log; 1 of 3 workers do not answer"


def test_rates_are_summed_at_the_times_of_whom_has_looked_longest():
    merged = merge_histories(
        [
            history([14_000, 24_000], put_files=[1, 2], backlog_bytes=[5, 6]),
            history([10_000, 20_000, 30_000, 50_000], put_files=[10, 20, 30, 40]),
            history(),
        ]
    )
    assert merged["at_ms"] == [10_000, 20_000, 30_000, 50_000]
    assert merged["put_files"] == [11, 22, 32, 40]
    assert merged["backlog_bytes"] == [5, 6, 6, 0]


def test_samples_of_all_workers_in_one_family():
    page = '# HELP des_x_total Things.\n# TYPE des_x_total counter\ndes_x_total{a="b"} 1.0\n'
    merged = merge_metrics({0: page, 3: page}, count=4).decode()
    assert merged.count("# TYPE des_x_total counter") == 1
    assert 'des_x_total{a="b",worker="0"} 1.0' in merged
    assert 'des_x_total{a="b",worker="3"} 1.0' in merged
    assert "des_workers 4.0" in merged
    assert "des_workers_serving 2.0" in merged
