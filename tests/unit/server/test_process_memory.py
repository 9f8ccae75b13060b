"""A serving process keeps freed memory instead of having the kernel clear it again and again."""

import platform
import subprocess
import sys

import pytest

SPANS = """
import resource, sys
from des_server import process_memory
if sys.argv[1] == "settled":
    process_memory.settle()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
spans = [bytes(2 << 20)]
before = faults()
for _ in range(100):
    spans = [b"x" * (2 << 20) for _ in range(3)]
    spans.clear()
print(faults() - before)
"""


def pages_taken(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", SPANS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library is told what to keep")
def test_spans_that_follow_each_other_use_the_same_pages():
    assert pages_taken("settled") < pages_taken("as it is") / 2
