"""A file much larger than the memory it may cost, through a process of its own."""

import subprocess
import sys

import pytest

MIB = 1 << 20
SIZE = 160 * MIB
COST_MAX = 48 * MIB
"""A few messages of 1 MiB, gRPC's windows, and what allocators keep."""

SCRIPT = """
import asyncio, re, sys
from des_client import AsyncDesClient, DesClient

kind, what, target, name, path, size = sys.argv[1:]
pieces = lambda: (bytes(1 << 16) for _ in range(int(size) >> 16))
args, kwargs = {
    "put path": ((__import__("pathlib").Path(path),), {}),
    "put pieces": ((pieces(),), {}),
    "get_to": ((name, path + ".out"), {}),
}[what]
method = what.split()[0]

def peak():
    # Not ru_maxrss: that one starts at the peak of the process that started this one.
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1]) * 1024

def sync():
    with DesClient(target) as des:
        des.put(bytes(3 << 20))
        before = peak()
        getattr(des, method)(*args, **kwargs)
        return peak() - before

async def aio():
    async with AsyncDesClient(target) as des:
        await des.put(bytes(3 << 20))
        before = peak()
        await getattr(des, method)(*args, **kwargs)
        return peak() - before

print(sync() if kind == "sync" else asyncio.run(aio()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("what", ["put path", "put pieces", "get_to"])
@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_large_file_costs_little_memory(server, tmp_path, kind, what):
    double = server.double
    double.keep_requests = double.keep_content = False
    path = tmp_path / "large"
    name = "x"
    if what == "put path":
        with path.open("wb") as file:
            file.truncate(SIZE)
    if what == "get_to":
        double.keep_content = True
        name = double.add(bytes(SIZE))
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, kind, what, server.target, name, path, str(SIZE)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert 0 < int(ran.stdout) < COST_MAX
    if what == "get_to":
        assert path.with_name("large.out").stat().st_size == SIZE
    else:
        assert max(one.info.size_bytes for one in double.files.values()) == SIZE
