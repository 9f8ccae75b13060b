"""`HealthChecker`: looks at the parts that a node needs, from time to time, and remembers what it found.

Whoever asks is told what was found last, so probes cost nothing however many there are. A part that hangs,
fails or raises is a result like any other. Whether the process lives is no question for a check: that must
never depend on another system.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import structlog

from des.clock import Clock
from des.errors import DesError
from des.monitoring.health_metrics import HealthMetrics

_log = structlog.get_logger(__name__)

FOUND_LENGTH_MAX: Final = 500
"""Characters of a finding that are kept; a driver's message may carry a whole statement."""


class CheckState(StrEnum):
    """How a part is."""

    UNKNOWN = "unknown"
    """Not looked at yet."""
    OK = "ok"
    DEGRADED = "degraded"
    """The node does its work, with less than it should have, or not for long."""
    FAILED = "failed"


class Stops(StrEnum):
    """What a node cannot do while a part has failed."""

    NOTHING = "nothing"
    """Some calls fail, others do not need the part."""
    WRITES = "writes"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at a part found."""

    state: CheckState
    found: str
    """The cause, where the state is not `OK`."""
    advice: str = ""
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A part and how to look at it."""

    name: str
    look: Callable[[], Awaitable[Reading]]
    """May raise a `DesError`, which is a failure; may be cancelled when its time is over."""
    advice: str
    """What to do when it fails without an advice of its own."""
    stops: Stops = Stops.NOTHING
    timeout_s: float | None = None
    """Of one look; None for the checker's."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What is known of a part."""

    name: str
    state: CheckState
    found: str
    advice: str
    stops: Stops
    latency_ms: float
    """How long the look took."""
    looked_ms: int
    """When it ended, UTC milliseconds since 1970; 0 when there was none."""
    since_ms: int
    """When the part was first found in this state."""

    def as_json(self, now_ms: int) -> dict[str, str | float | None]:
        """Return it for people and monitors; the age is None before the first look."""
        return {
            "check": self.name,
            "state": self.state.value,
            "found": self.found,
            "advice": self.advice,
            "stops": self.stops.value,
            "latency_ms": round(self.latency_ms, 3),
            "age_s": round(max(0, now_ms - self.looked_ms) / 1000, 3) if self.looked_ms else None,
            "since_s": round(max(0, now_ms - self.since_ms) / 1000, 3) if self.since_ms else None,
        }


class HealthChecker:
    """The last results of a node's checks."""

    def __init__(
        self,
        checks: Sequence[HealthCheck],
        *,
        clock: Clock,
        interval_s: float,
        timeout_s: float,
        metrics: HealthMetrics | None = None,
    ) -> None:
        """Know nothing yet; a look takes at most `timeout_s`, a round begins `interval_s` after the last."""
        self._checks = tuple(checks)
        self._clock = clock
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._round: asyncio.Task[None] | None = None
        self._results = {
            check.name: CheckResult(
                check.name, CheckState.UNKNOWN, "not looked at yet", "", check.stops, 0, 0, 0
            )
            for check in checks
        }

    @property
    def results(self) -> Mapping[str, CheckResult]:
        """What was found last, by name, in the order of the checks."""
        return self._results

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.step()
            await self._clock.sleep(self._interval_s)

    async def step(self) -> None:
        """Look at every part once, at all of them at the same time; who asks meanwhile shares the round."""
        if self._round is None or self._round.done():
            self._round = asyncio.ensure_future(self._look_all())
        await asyncio.shield(self._round)

    async def _look_all(self) -> None:
        await asyncio.gather(*(self._look(check) for check in self._checks))

    async def _look(self, check: HealthCheck) -> None:
        begun = self._clock.monotonic()
        reading = await self._read(check)
        latency_s = self._clock.monotonic() - begun
        before, now_ms = self._results[check.name], self._clock.now_ms()
        changed = before.state is not reading.state
        self._results[check.name] = replace(
            before,
            state=reading.state,
            found=reading.found[:FOUND_LENGTH_MAX],
            advice=reading.advice or ("" if reading.state is CheckState.OK else check.advice),
            latency_ms=latency_s * 1000,
            looked_ms=now_ms,
            since_ms=now_ms if changed else before.since_ms,
        )
        if self._metrics is not None:
            self._metrics.looked(check.name, reading.state.value, latency_s)
        if changed and not (before.state is CheckState.UNKNOWN and reading.state is CheckState.OK):
            say = _log.info if reading.state is CheckState.OK else _log.warning
            say("health check", check=check.name, state=reading.state.value, found=reading.found)

    async def _read(self, check: HealthCheck) -> Reading:
        timeout_s = self._timeout_s if check.timeout_s is None else check.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await check.look()
        except TimeoutError:
            return Reading(CheckState.FAILED, f"no answer within {timeout_s:g} s")
        except (DesError, OSError) as error:
            return Reading(CheckState.FAILED, str(error) or repr(error))
        except Exception as error:  # noqa: BLE001  a check must never end the others
            _log.exception("health check broke", check=check.name)
            return Reading(CheckState.FAILED, f"the check itself failed: {error!r}")
