"""What EXT costs to write and to keep, and what it saves: open a container of N files and read one.

    python benchmarks/bench_ext.py --files 10000000 --layout framed

Each figure of a reader is taken in a fresh process, best of several where it is a time.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from des.core import DesWriter
from des.format.section_table import SectionKind


def name(i):
    """30 characters, as the server makes them: the time, in ms, counts up by one for every fourth file."""
    number = (1_795_392_000_000 + i // 4 & 0xFFFFFFFF) << 16 | 7 << 8 | i & 0xFF
    check = sum(number.to_bytes(6, "big")) & 0xFF
    return f"DES_20261123_({number:012X}_{check:02X})"


READ_ONE = """
import json, os, resource, sys, time
from des.core import DesReader
import des.core.s3_reader
path, name = sys.argv[1:]
def status(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024
before, cpu, wall = status("VmRSS"), time.process_time(), time.perf_counter()
reader = DesReader(path)
data = reader.get_file(name)
first_cpu, first_wall = time.process_time() - cpu, time.perf_counter() - wall
grown = status("VmHWM") - before
times = []
for _ in range(200):
    started = time.process_time()
    with DesReader(path) as again:
        again.get_file(name)
    times.append(time.process_time() - started)
print(json.dumps({"first_cpu_ms": first_cpu * 1e3, "first_wall_ms": first_wall * 1e3,
    "open_and_read_cpu_ms_median": sorted(times)[100] * 1e3, "memory_kib": grown / 1024}))
"""


def read_one(path, wanted):
    done = subprocess.run(
        [sys.executable, "-c", READ_ONE, path, wanted], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--layout", choices=["framed", "v1"], default="framed")
    parser.add_argument("--size", type=int, default=1, help="bytes of each file")
    arguments = parser.parse_args()
    count = arguments.files
    assert len(name(count)) == 30
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        path = Path(folder) / "c.des"
        data = b"x" * arguments.size
        started = time.perf_counter()
        writer = DesWriter(path, layout=arguments.layout)
        for i in range(count):
            writer.add_file(name(i), data)
        added = time.perf_counter()
        footer = writer.finish()
        finished = time.perf_counter()
        size = path.stat().st_size
        print(f"{count:,} files of {arguments.size} B, {arguments.layout}: {size:,} bytes")
        print(f"  add        {added - started:8.1f} s, {count / (added - started):,.0f} files/s")
        print(f"  finish     {finished - added:8.1f} s")
        print(
            f"  peak       {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MiB of the writer"
        )
        print(f"  overhead   {(size - count * arguments.size) / count:8.2f} B/file, of which")
        print(f"    before EXT {(footer.index_stop - count * arguments.size) / count:6.2f}")
        for section in writer.ext.sections:
            print(f"    {SectionKind(section.kind).name:10s} {section.length / count:6.2f}")
        del writer
        print("  open and read one:", json.dumps(read_one(path, name(count // 3))))


if __name__ == "__main__":
    main()
