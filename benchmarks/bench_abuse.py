"""What abusers cost a server, and what a healthy client beside them notices.

    python benchmarks/bench_abuse.py [--slow 1000] [--resets 10000] [--seconds 5]

The server is a process of its own over SQLite and a local folder. Three times a healthy client
reads a small file: alone for `--seconds`; as long beside `--slow` uploads that have sent one small
part and then nothing; and beside streams that are begun and reset, `--resets` of them from
`--connections` connections, as fast as they go. Then what telling
callers apart costs: StatFile with nothing, with an audit log alone, with API keys, with tokens.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import google_crc32c
import grpc
import jwt
import psutil
from cryptography.hazmat.primitives.asymmetric import ec
from des_proto.v1 import file_service_pb2 as pb
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2_grpc import FileServiceStub

PART = b"x" * 1024


class Server:
    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "des.cli", "serve"],
            stdout=subprocess.PIPE,
            stderr=(folder / "log").open("a"),
            text=True,
            env=os.environ
            | {"DES_DATA_DIR": str(folder / "data"), "DES_LISTEN": "127.0.0.1:0", "DES_HTTP_LISTEN": ""}
            | environment,
        )
        line = self.process.stdout.readline()
        assert "serving" in line, (folder / "log").read_text()
        self.address = line.split()[4].rstrip(",")
        self.memory = psutil.Process(self.process.pid)

    def mib(self) -> float:
        return self.memory.memory_info().rss / (1 << 20)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def put(data: bytes) -> pb.PutFileRequest:
    chunk = types_pb2.DataChunk(data=data, crc32c=google_crc32c.value(data))
    return pb.PutFileRequest(spec=pb.FileSpec(), chunk=chunk, finish=True)


async def healthy(address: str, seconds: float, metadata: tuple[tuple[str, str], ...] = ()) -> list[float]:
    """Put a small file, then read it one call after the other; return the latencies in ms."""
    taken = []
    async with grpc.aio.insecure_channel(address) as channel:
        files = FileServiceStub(channel)
        name = (await files.PutFile(iter([put(b"y" * 4096)]), metadata=metadata)).file.name
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            async for _ in files.GetFile(pb.GetFileRequest(name=name), metadata=metadata):
                pass
            taken.append((time.perf_counter() - begun) * 1000)
    return taken


def percentiles(taken: list[float]) -> str:
    cuts = statistics.quantiles(taken, n=100)
    return f"{len(taken):6d} reads, p50 {cuts[49]:6.2f} ms, p99 {cuts[98]:7.2f} ms, max {max(taken):7.1f} ms"


async def slow_streams(server: Server, count: int, seconds: float) -> list[float]:
    """Hold `count` uploads that owe the rest of a file, 100 on each connection."""
    channels = [
        grpc.aio.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
        for _ in range(-(-count // 100))
    ]
    calls = []
    try:
        for number in range(count):
            call = FileServiceStub(channels[number // 100]).PutFile()
            await call.write(pb.PutFileRequest(spec=pb.FileSpec(), chunk=types_pb2.DataChunk(data=PART)))
            calls.append(call)
        taken = await healthy(server.address, seconds)
        still = sum(not call.done() for call in calls)
        print(f"  {count} slow streams held, {still} still open: {server.mib():.0f} MiB")
        return taken
    finally:
        for call in calls:
            call.cancel()
        for channel in channels:
            await channel.close()


async def rapid_resets(server: Server, count: int, connections: int) -> list[float]:
    """Begin and reset `count` streams while the healthy client reads; return its latencies."""
    done = asyncio.Event()
    channels = [
        grpc.aio.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
        for _ in range(connections)
    ]

    async def reset(channel: grpc.aio.Channel, share: int) -> None:
        files = FileServiceStub(channel)
        for _ in range(share):
            call = files.PutFile()
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
                await asyncio.wait_for(call.write(pb.PutFileRequest(spec=pb.FileSpec())), 30)
            call.cancel()

    async def read_on() -> list[float]:
        taken: list[float] = []
        while not done.is_set():
            taken += await healthy(server.address, 0.5)
        return taken

    reading = asyncio.create_task(read_on())
    begun = time.perf_counter()
    await asyncio.gather(*(reset(channel, count // connections) for channel in channels))
    took = time.perf_counter() - begun
    done.set()
    taken = await reading
    for channel in channels:
        await channel.close()
    print(f"  {count} streams begun and reset in {took:.1f} s, {count / took:.0f}/s: {server.mib():.0f} MiB")
    return taken


async def abuse(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            alone = await healthy(server.address, options.seconds)
            print(f"alone: server has {server.mib():.0f} MiB\n  healthy client: {percentiles(alone)}")
            print("slow streams")
            print(
                f"  healthy client: {percentiles(await slow_streams(server, options.slow, options.seconds))}"
            )
            print("rapid resets")
            beside = await rapid_resets(server, options.resets, options.connections)
            print(f"  healthy client: {percentiles(beside)}")
            after = await healthy(server.address, options.seconds)
            print(f"after: server has {server.mib():.0f} MiB\n  healthy client: {percentiles(after)}")
        finally:
            server.stop()


async def cpu_us(server: Server, seconds: float, metadata: tuple[tuple[str, str], ...]) -> float:
    """Return the server's processor time for one StatFile, which other processes do not change much."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        files = FileServiceStub(channel)
        name = (await files.PutFile(iter([put(b"y")]), metadata=metadata)).file.name
        request = pb.StatFileRequest(name=name)
        before = sum(server.memory.cpu_times()[:2])
        end, count = time.perf_counter() + seconds, 0

        async def loop() -> None:
            nonlocal count
            while time.perf_counter() < end:
                await files.StatFile(request, metadata=metadata)
                count += 1

        await asyncio.gather(*(loop() for _ in range(16)))
        return (sum(server.memory.cpu_times()[:2]) - before) * 1e6 / count


def issuer(folder: Path) -> tuple[dict[str, str], str]:
    """Make an issuer's key set and a token of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": "one", "use": "sig"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
    claims = {"iss": "i", "aud": "a", "sub": "me", "exp": int(time.time()) + 3600}
    settings = {
        "DES_JWT__JWKS": str(folder / "jwks.json"),
        "DES_JWT__ISSUER": "i",
        "DES_JWT__AUDIENCE": "a",
        "DES_AUTH__GRANTS": json.dumps([{"principal": "jwt:me", "verbs": ["assign", "read", "write"]}]),
    }
    return settings, jwt.encode(claims, key, "ES256", headers={"kid": "one"})


async def price_of_callers(seconds: float, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for one in ("off", "audit", "key", "token"):
            (folder / one).mkdir()
        made = subprocess.run(  # noqa: ASYNC221  nothing else runs yet
            [
                *(sys.executable, "-m", "des.cli", "keys", "create", "--verbs", "assign,read,write"),
                *("--data-dir", str(folder / "key" / "data")),
            ],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        tokens, token = issuer(folder / "token")
        servers = {
            "off": (Server(folder / "off"), ()),
            "audit log": (Server(folder / "audit", DES_AUTH__AUDIT_FILE=str(folder / "audit.jsonl")), ()),
            "API key": (
                Server(folder / "key", DES_AUTH__API_KEYS="true"),
                (("authorization", f"Bearer {made.stdout.split()[-1]}"),),
            ),
            "token (ES256)": (Server(folder / "token", **tokens), (("authorization", f"Bearer {token}"),)),
        }
        try:
            found: dict[str, list[float]] = {name: [] for name in servers}
            for _ in range(rounds):  # in turn, so that a busy moment hits all alike
                for each, (server, metadata) in servers.items():
                    found[each].append(await cpu_us(server, seconds, metadata))
            off = statistics.median(found["off"])
            for each, taken in found.items():
                cost = statistics.median(taken)
                print(f"  {each:14} {cost:4.0f} us of the server, {cost - off:+5.0f} us, {cost / off:.0%}")
        finally:
            for server, _ in servers.values():
                server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow", type=int, default=1000)
    parser.add_argument("--resets", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.slow or options.resets:
        asyncio.run(abuse(options))
    print("telling callers apart")
    asyncio.run(price_of_callers(min(options.seconds, 2.0), options.rounds))


if __name__ == "__main__":
    main()
