"""What the workers tell of themselves, as one: their health, and what the status page shows."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from des import __version__
from des_server.cluster.worker_metrics import WORKER_LABEL
from des_server.dashboard.history import STEP_S, Counters
from des_server.dashboard.troubles import TROUBLES_MAX

Report = dict[str, Any]

WORST_FIRST: Final = ("failed", "degraded", "unknown", "ok")
SAME_STEP_MS: Final = 1000 * STEP_S
"""Workers take their samples at times of their own; one within a step of another's is of the same moment."""


def merge_health(told: Mapping[int, Report], *, count: int) -> Report:
    """Return the health of `count` workers from what those that answer tell, by number.

    Ready is all of it or nothing: a client's connection may be with any worker. A worker tells `checks` and
    `cause` only to whom it may.
    """
    good = len(told) == count and all(one.get("status") == "ready" for one in told.values())
    causes = [f"worker {number}: {one['cause']}" for number, one in told.items() if one.get("cause")]
    if len(told) < count:
        causes.append(f"{count - len(told)} of {count} workers do not answer")
    merged: Report = {
        "status": "ready" if good else "not ready",
        "writable": good,
        "readable": any(one.get("readable") for one in told.values()),
        "workers": len(told),
    }
    if told and all("checks" in one for one in told.values()):
        merged |= {
            "cause": "; ".join(causes),
            "version": __version__,
            "degraded": sorted({name for one in told.values() for name in one["degraded"]}),
            "checks": [
                {**check, WORKER_LABEL: number} for number, one in told.items() for check in one["checks"]
            ],
        }
    return merged


def merge_status(told: Mapping[int, Report], *, count: int) -> Report:
    """Return what the page shows of all workers; at least one must have told.

    Shards, days and nodes are the whole store's, whoever is asked: they are those of the worker that knows
    them best. Rates and backlogs are sums. Of each check the worst is shown, with its worker
    where it is not well.
    """
    best = min(told.values(), key=lambda one: (bool(one["stale"]), -len(one["grid"])))
    own = {one["node"]: number for number, one in told.items()}
    absent = count - len(told)
    causes = [
        f"worker {number}: {one['health']['cause']}" for number, one in told.items() if one["health"]["cause"]
    ]
    if absent:
        causes.append(f"{absent} of {count} workers do not answer")
    return {
        **best,
        "workers": len(told),
        "started_ms": min(one["started_ms"] for one in told.values()),
        "health": {
            "readable": any(one["health"]["readable"] for one in told.values()),
            "writable": not absent and all(one["health"]["writable"] for one in told.values()),
            "cause": "; ".join(causes),
            "checks": _worst_checks(told),
        },
        "nodes": [
            {**node, "this": node["node"] in own, **_worker(own.get(node["node"]))} for node in best["nodes"]
        ],
        "history": merge_histories([one["history"] for one in told.values()]),
        "troubles": _last_troubles(told),
    }


def merge_histories(histories: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Return the sums, at the times of the worker that has looked longest."""
    longest = max(histories, key=lambda one: len(one["at_ms"]))
    at_ms = list(longest["at_ms"])
    merged: dict[str, list[float]] = {"at_ms": at_ms}
    for name in (field.name for field in fields(Counters)):
        merged[name] = [round(sum(_value_at(one, name, at) for one in histories), 2) for at in at_ms]
    return merged


def _value_at(history: Mapping[str, Sequence[float]], name: str, at_ms: float) -> float:
    """Return the value of the sample nearest to a time; 0 where there is none of its step."""
    times = history["at_ms"]
    after = bisect_left(times, at_ms)
    near = [n for n in (after - 1, after) if 0 <= n < len(times) and abs(times[n] - at_ms) < SAME_STEP_MS]
    return history[name][min(near, key=lambda n: abs(times[n] - at_ms))] if near else 0.0


def _worst_checks(told: Mapping[int, Report]) -> list[Report]:
    worst: dict[str, Report] = {}
    for number, one in told.items():
        for check in one["health"]["checks"]:
            known = worst.get(check["check"])
            if known is None or _rank(check) < _rank(known):
                who = {} if check["state"] == "ok" else {WORKER_LABEL: number}
                worst[check["check"]] = {**check, **who}
    return list(worst.values())


def _rank(check: Report) -> int:
    return WORST_FIRST.index(check["state"])


def _last_troubles(told: Mapping[int, Report]) -> list[Report]:
    found = [{**trouble, WORKER_LABEL: number} for number, one in told.items() for trouble in one["troubles"]]
    return sorted(found, key=lambda trouble: -trouble["at_ms"])[:TROUBLES_MAX]


def _worker(number: int | None) -> Report:
    return {} if number is None else {WORKER_LABEL: number}
