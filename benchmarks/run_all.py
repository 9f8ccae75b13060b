"""Every figure, one benchmark after the other: log, containers, EXT, compression, calls over gRPC.

make bench        or one of them alone: python benchmarks/bench_grpc.py --help
"""

import subprocess
import sys
from pathlib import Path

ORDER = (
    "bench_log",
    "bench_container",
    "bench_ext",
    "bench_random_reads",
    "bench_node_memory",
    "bench_coalesce",
    "bench_compression",
    "bench_object_store",
    "bench_stored",
    "bench_grpc",
    "bench_client_many",
)


def main() -> int:
    folder = Path(__file__).parent
    failed = []
    for name in ORDER:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, str(folder / f"{name}.py")], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
