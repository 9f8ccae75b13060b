"""What a node that runs on these settings says of itself, asked over its HTTP port."""

import asyncio
import http.client
import json
import ssl
from typing import Any, Final

from des.config import Settings
from des.node.diagnosis import Finding, Verdict

PART: Final = "running node"
TIMEOUT_S: Final = 10.0
ANSWER_BYTES_MAX: Final = 1 << 20
VERDICTS: Final = {
    "ok": Verdict.OK,
    "unknown": Verdict.OK,
    "degraded": Verdict.WARNING,
    "failed": Verdict.FAILED,
}


async def check_running_node(settings: Settings, *, token: str = "") -> list[Finding]:
    """Ask the node for what its checks found; none that runs is no fault.

    `token` is an API key or bearer token, for nodes that tell strangers no more than whether.
    """
    if not settings.http_listen or settings.http_listen.endswith(":0"):
        return [Finding(PART, Verdict.OK, "not asked: http_listen names no port")]
    try:
        status, told = await asyncio.to_thread(_ask, settings, token)
    except (OSError, http.client.HTTPException):
        return [Finding(PART, Verdict.OK, f"none answers at {settings.http_listen}")]
    except ValueError:
        found = f"what answers at {settings.http_listen} is no DES server"
        return [Finding(PART, Verdict.WARNING, found, "look at what else listens there, or set http_listen")]
    ready = status == http.client.OK
    verdict = Verdict.OK if ready else Verdict.FAILED
    cause = f": {told['cause']}" if told.get("cause") else ""
    findings = [Finding(PART, verdict, f"{settings.http_listen} is {told.get('status')}{cause}")]
    for one in told.get("checks", ()):
        worker = f" of worker {one['worker']}" if "worker" in one else ""
        age = ""
        if one["age_s"] is not None:
            age = f" (looked {one['age_s']:.0f} s ago, took {one['latency_ms']:.0f} ms)"
        findings.append(
            Finding(
                f"{PART}, {one['check']}{worker}",
                VERDICTS.get(one["state"], Verdict.WARNING),
                f"{one['found']}{age}",
                one["advice"],
                unavailable=one["check"] in {"database", "object_store", "sources"},
            )
        )
    if "checks" not in told:
        advice = "set DES_TOKEN to a key that may see shards, or auth.health_detail"
        findings.append(Finding(PART, Verdict.OK, "tells strangers no more", advice))
    return findings


def _ask(settings: Settings, token: str) -> tuple[int, dict[str, Any]]:
    host, _, port = settings.http_listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104  a comparison
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    if settings.tls.cert is not None:
        # Only the holder of the server's own certificate; the name in it need not be this address.
        context = ssl.create_default_context(cafile=settings.tls.cert)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        connection = http.client.HTTPSConnection(host, int(port), timeout=TIMEOUT_S, context=context)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", "/health/ready", headers=headers)
        answer = connection.getresponse()
        told = json.loads(answer.read(ANSWER_BYTES_MAX))
        if not isinstance(told, dict) or "status" not in told:
            raise ValueError("no health")
        return answer.status, told
    finally:
        connection.close()
