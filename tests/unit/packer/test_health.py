"""What `HealthChecker` remembers of parts that answer, fail, hang and break."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from des.clock import SystemClock
from des.errors import UnavailableError
from des.monitoring.health_metrics import HealthMetrics
from des.packer.health import CheckState, HealthCheck, HealthChecker, Reading, Stops


class Part:
    def __init__(self) -> None:
        self.does: Reading | BaseException | None = Reading(CheckState.OK, "answers")
        self.looks = 0

    async def look(self) -> Reading:
        self.looks += 1
        if self.does is None:
            await asyncio.Event().wait()
        if isinstance(self.does, BaseException):
            raise self.does
        assert self.does is not None
        return self.does


@pytest.fixture
def parts() -> dict[str, Part]:
    return {"one": Part(), "two": Part()}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def checker(parts: dict[str, Part], registry: CollectorRegistry) -> HealthChecker:
    checks = [HealthCheck(name, part.look, f"mend {name}", Stops.WRITES) for name, part in parts.items()]
    return HealthChecker(
        checks, clock=SystemClock(), interval_s=3600, timeout_s=0.2, metrics=HealthMetrics(registry)
    )


async def test_nothing_is_known_before_the_first_look(checker: HealthChecker) -> None:
    assert {one.state for one in checker.results.values()} == {CheckState.UNKNOWN}
    assert checker.results["one"].as_json(5)["age_s"] is None


@pytest.mark.parametrize(
    ("does", "found"),
    [
        (UnavailableError("connection refused"), "connection refused"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("x"), "the check itself failed: ValueError('x')"),
        (None, "no answer within 0.2 s"),
        (Reading(CheckState.FAILED, "full"), "full"),
    ],
)
async def test_every_way_to_fail_is_a_result_and_hides_no_other(
    checker, parts, registry, does, found
) -> None:
    await checker.step()
    parts["one"].does = does
    await checker.step()
    failed, well = checker.results["one"], checker.results["two"]
    assert (failed.state, failed.found, failed.advice) == (CheckState.FAILED, found, "mend one")
    assert (well.state, well.advice) == (CheckState.OK, "")
    assert failed.since_ms > 0
    assert registry.get_sample_value("des_health_check_up", {"check": "one"}) == 0
    assert registry.get_sample_value("des_health_check_up", {"check": "two"}) == 1
    assert registry.get_sample_value("des_health_check_failures_total", {"check": "one"}) == 1
    parts["one"].does = Reading(CheckState.DEGRADED, "slow", "wait")
    await checker.step()
    assert checker.results["one"].advice == "wait"
    assert registry.get_sample_value("des_health_check_up", {"check": "one"}) == 0.5


async def test_asking_costs_no_look_and_rounds_are_shared(checker, parts) -> None:
    await asyncio.gather(*(checker.step() for _ in range(20)))
    assert parts["one"].looks == 1
    for _ in range(100):
        assert checker.results["one"].state is CheckState.OK
    assert parts["one"].looks == 1


async def test_a_state_keeps_the_time_of_its_beginning(checker) -> None:
    await checker.step()
    since = checker.results["one"].since_ms
    await asyncio.sleep(0.02)
    await checker.step()
    assert checker.results["one"].since_ms == since
    assert checker.results["one"].looked_ms >= since
