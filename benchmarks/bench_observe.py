"""What metrics and traces cost a GetFile: three servers beside each other, loaded in turn, the same client.

    python benchmarks/bench_observe.py [--seconds 2] [--rounds 5] [--kib 1]

`bare` counts nothing (its counters are taken out), `metrics` is the server as it is, `traced` keeps 1 % of
the calls and hands their spans to an exporter that drops them. Told: calls a second, and the server's CPU
time a call, which a busy machine disturbs less; medians over the rounds.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
import timeit
from pathlib import Path

import grpc
import psutil
from des_client import AsyncDesClient
from des_server.app import build_server
from des_server.interceptors.metrics import MethodSeries
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


class Dropping(SpanExporter):
    def export(self, spans):  # noqa: ARG002  that is the point
        return SpanExportResult.SUCCESS


async def serve(mode: str, folder: Path) -> None:
    configure_logging(level="warning", style="console")
    if mode == "bare":
        MethodSeries.end = lambda *_, **__: None  # type: ignore[method-assign]
        NodeMetrics.got = lambda *_, **__: None  # type: ignore[method-assign]
    if mode == "traced":
        use_tracing(Tracing(OpenTelemetry("bench", BatchSpanProcessor(Dropping())), 0.01))
    settings = Settings(data_dir=folder, listen="127.0.0.1:0", http_listen="", log={"reserve_free_bytes": 0})
    node = await Node.open(settings)
    server = build_server(node, settings)
    await server.start()
    print(server.address, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()
    await node.close()


class Server:
    """A server in a process of its own."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.rates: list[float] = []
        self.cpu_us: list[float] = []

    async def start(self, folder: Path, data: bytes) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--serve", self.mode, "--folder", str(folder / self.mode),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        address = (await self.process.stdout.readline()).decode().strip()
        self.client = AsyncDesClient(address, verify=False)
        self.name = (await self.client.put(data)).file.name
        self.cpu = psutil.Process(self.process.pid)

    async def load(self, seconds: float) -> tuple[float, float]:
        ends_at = time.perf_counter() + seconds
        calls = 0

        async def caller() -> None:
            nonlocal calls
            while time.perf_counter() < ends_at:
                await self.client.get(self.name)
                calls += 1

        before, begun = sum(self.cpu.cpu_times()[:2]), time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        used, took = sum(self.cpu.cpu_times()[:2]) - before, time.perf_counter() - begun
        return calls / took, used / calls * 1e6

    async def stop(self) -> None:
        await self.client.close()
        self.process.stdin.close()
        await self.process.wait()


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


async def main(seconds: float, rounds: int, size: int) -> None:
    servers = [Server(mode) for mode in MODES]
    with tempfile.TemporaryDirectory() as folder:
        for server in servers:
            await server.start(Path(folder), b"x" * size)
            await server.load(min(seconds, 1.0))  # warm
        for number in range(rounds):
            # The order turns, so that none always follows the same neighbour.
            for server in servers[number % 3 :] + servers[: number % 3]:
                rate, cpu_us = await server.load(seconds)
                server.rates.append(rate)
                server.cpu_us.append(cpu_us)
        for server in servers:
            await server.stop()
    bare = servers[0]
    print(f"GetFile of {size} open bytes, {CALLERS} callers, {rounds} rounds of {seconds} s, medians:")
    for server in servers:
        rate, cpu = statistics.median(server.rates), statistics.median(server.cpu_us)
        slower = statistics.median(
            1 - mine / base for mine, base in zip(server.rates, bare.rates, strict=True)
        )
        dearer = statistics.median(
            mine / base - 1 for mine, base in zip(server.cpu_us, bare.cpu_us, strict=True)
        )
        print(f"  {server.mode:8} {rate:7.0f}/s ({slower:+.1%} slower), CPU {cpu:6.1f} us ({dearer:+.1%})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kib", type=float, default=1.0)
    parser.add_argument("--serve", choices=MODES)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve, given.folder))
    else:
        alone()
        asyncio.run(main(given.seconds, given.rounds, int(given.kib * 1024)))
