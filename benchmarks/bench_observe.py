"""What metrics and traces cost a GetFile: three doors of one server process, loaded in turn by one client.

    python benchmarks/bench_observe.py [--seconds 0.2] [--rounds 80] [--kib 1]

`bare` counts nothing (its counters are taken out), `metrics` is the server as it is, `traced` keeps 1 % of
the calls and hands their spans to an exporter that drops them. All three stand over one node in one process,
since two processes of the same code differ by several percent for as long as they live. Told is the CPU time
of that process for a call, summed over its threads in nanoseconds, which a busy machine disturbs less than
rates. The doors take turns of a fifth of a second, forwards and backwards; each turn is compared with the
`bare` one of its round, and the median of all ratios stands with its interval of 95 % (bootstrap).
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
import timeit
from pathlib import Path

import des_server.app
import grpc
from des_client import AsyncDesClient
from des_server.app import DesServer, build_server
from des_server.interceptors.metrics import GrpcMetrics, MethodSeries
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

from des.config import Settings
from des.monitoring.logging import configure_logging
from des.monitoring.metrics import NodeMetrics
from des.monitoring.otel import OpenTelemetry
from des.monitoring.tracing import Tracing, use_tracing
from des.node import Node

MODES = ("bare", "metrics", "traced")
CALLERS = 32
DRAWS = 2000
TARGETS = {"metrics": 0.03, "traced": 0.08}


class Dropping(SpanExporter):
    def export(self, spans):  # noqa: ARG002  that is the point
        return SpanExportResult.SUCCESS


class Uncounted(MethodSeries):
    __slots__ = ()

    def end(self, code, *, received, sent, seconds) -> None:
        pass


class NoMetrics(GrpcMetrics):
    def of(self, service: str, method: str, *, kind: str) -> MethodSeries:
        return Uncounted((kind, service, method))


def door(mode: str, node: Node, settings: Settings) -> DesServer:
    des_server.app.GrpcMetrics = NoMetrics if mode == "bare" else GrpcMetrics  # type: ignore[misc]
    use_tracing(
        Tracing(OpenTelemetry("bench", BatchSpanProcessor(Dropping())), 0.01) if mode == "traced" else None
    )
    server = build_server(node, settings)
    if mode == "bare":
        server.metrics.got = lambda *_, **__: None  # type: ignore[method-assign]
    return server


async def serve(folder: Path) -> None:
    configure_logging(level="warning", style="console")
    settings = Settings(data_dir=folder, listen="127.0.0.1:0", http_listen="", log={"reserve_free_bytes": 0})
    node = await Node.open(settings)
    servers = [door(mode, node, settings) for mode in MODES]
    for server in servers:
        await server.start()
    print(*(server.address for server in servers), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for server in servers:
        await server.stop()
    await node.close()


def cpu_ns(pid: int) -> int:
    """Return the time that all threads of a process have run (proc(5), schedstat)."""
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat"))


class Door:
    """One of the server's doors, and what was measured at it."""

    def __init__(self, mode: str, address: str, pid: int) -> None:
        self.mode = mode
        self.client = AsyncDesClient(address, verify=False)
        self.pid = pid
        self.rates: list[float] = []
        self.cpu_us: list[float] = []

    async def load(self, name: str, seconds: float) -> tuple[float, float]:
        calls = 0
        before, begun = cpu_ns(self.pid), time.perf_counter()
        ends_at = begun + seconds

        async def caller() -> None:
            nonlocal calls
            while time.perf_counter() < ends_at:
                await self.client.get(name)
                calls += 1

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        used, took = cpu_ns(self.pid) - before, time.perf_counter() - begun
        return calls / took, used / calls / 1000

    async def turn(self, name: str, seconds: float) -> None:
        rate, cpu_us = await self.load(name, seconds)
        self.rates.append(rate)
        self.cpu_us.append(cpu_us)


def alone() -> None:
    """Tell what the steps themselves cost in this process, where nothing else disturbs them."""
    series = MethodSeries(("unary", "service", "method"))
    counts = NodeMetrics(CollectorRegistry())
    tracing = Tracing(OpenTelemetry("bench", BatchSpanProcessor(Dropping())), 0.01)
    times = 100_000

    def count() -> None:
        series.started += 1
        series.end(grpc.StatusCode.OK, received=1, sent=1, seconds=0.001)
        counts.got(size=1024, requests=0, stored_bytes=0)

    def trace() -> None:
        with tracing.of_call("service/method", ()):
            pass

    for name, work in (("counting", count), ("deciding, and tracing 1 %", trace)):
        took = min(timeit.repeat(work, number=times, repeat=5)) / times * 1e6
        print(f"  {name} alone: {took:.2f} us a call")


def interval(ratios: list[float]) -> tuple[float, float]:
    """Return where 95 % of the medians lie that the same rounds could have given."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(DRAWS))
    return medians[round(0.025 * DRAWS)], medians[round(0.975 * DRAWS) - 1]


async def main(seconds: float, rounds: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--serve", folder,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        addresses = (await process.stdout.readline()).decode().split()
        doors = [Door(mode, address, process.pid) for mode, address in zip(MODES, addresses, strict=True)]
        name = (await doors[0].client.put(b"x" * size)).file.name
        for each in doors * 3:
            await each.load(name, 0.3)  # warm
        for number in range(rounds):
            order = doors[number % 3 :] + doors[: number % 3]
            # There and back: what changes steadily meets all alike, and none always follows the same one.
            for each in (*order, *reversed(order)):
                await each.turn(name, seconds)
        for each in doors:
            await each.client.close()
        process.stdin.close()
        await process.wait()
    bare = doors[0]
    print(
        f"GetFile of {size} open bytes, {CALLERS} callers, {2 * rounds} turns of {seconds} s each, medians:"
    )
    for each in doors:
        rate, cpu = statistics.median(each.rates), statistics.median(each.cpu_us)
        line = f"  {each.mode:8} {rate:6.0f}/s, CPU {cpu:6.1f} us"
        if each is not bare:
            # The two turns of a round together, so that there and back even out.
            ratios = [
                (mine + again) / (base + last) - 1
                for mine, again, base, last in zip(
                    each.cpu_us[::2], each.cpu_us[1::2], bare.cpu_us[::2], bare.cpu_us[1::2], strict=True
                )
            ]
            low, high = interval(ratios)
            line += f", {statistics.median(ratios):+.2%} ({low:+.2%} to {high:+.2%})"
            line += f"; target {TARGETS[each.mode]:.0%}"
        print(line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--kib", type=float, default=1.0)
    parser.add_argument("--serve", type=Path)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
    else:
        alone()
        asyncio.run(main(given.seconds, given.rounds, int(given.kib * 1024)))
