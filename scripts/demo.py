"""Puts a real tree of small files into a store, reads all back, compares, prints what it cost.

Uses what a user uses: `des serve`, `des put`, `des seal`, `des get`. The tree is the Python installation's
own library; pass another folder as the first argument.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

FILES_MIN = 10_000
FILE_SIZE_MAX = 1 << 20
DEMO = Path(".demo")


def des(*arguments: str, address: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line; its progress goes to this terminal."""
    environment = os.environ | ({"DES_ADDRESS": address} if address else {})
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "des.cli", *arguments], check=True, text=True, env=environment, **options
    )


def make_tree(source: Path, target: Path) -> dict[str, str]:
    """Hard-link (or copy) the small files of `source` below `target`; return path to SHA-256."""
    sums: dict[str, str] = {}
    for path in sorted(source.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > FILE_SIZE_MAX:
            continue
        relative = path.relative_to(source)
        copy = target / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        sums[str(relative)] = hashlib.sha256(copy.read_bytes()).hexdigest()
    return sums


def disk_bytes(folder: Path) -> int:
    """Bytes of the files below a folder, as `ls` shows them."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def sums_of(folder: Path) -> dict[str, str]:
    """Path to SHA-256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def main() -> int:
    """Run the demonstration; 0 when every byte came back."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(sysconfig.get_paths()["purelib"])
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    tree, back = DEMO / "tree", DEMO / "back"
    sums = make_tree(source, tree)
    if len(sys.argv) < 2 and len(sums) < FILES_MIN:
        sums |= {
            f"stdlib/{path}": digest
            for path, digest in make_tree(Path(sysconfig.get_paths()["stdlib"]), tree / "stdlib").items()
        }
    raw = disk_bytes(tree)
    print(f"{len(sums):,} files, {raw / 1e6:,.1f} MB, from {source}", flush=True)

    data = DEMO / "data"
    server = subprocess.Popen(
        [sys.executable, "-m", "des.cli", "serve"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ
        | {
            "DES_DATA_DIR": str(data),
            "DES_LISTEN": "127.0.0.1:0",
            "DES_HTTP_LISTEN": "127.0.0.1:0",
            "DES_LOG_LEVEL": "warning",
        },
    )
    try:
        assert server.stdout is not None
        ready = server.stdout.readline()
        if not ready.startswith("des: serving gRPC on "):
            print("the store did not start", file=sys.stderr)
            return 1
        address = ready.split()[4].rstrip(",")
        manifest = DEMO / "manifest.tsv"
        started = time.monotonic()
        des("put", str(tree), "--manifest", str(manifest), address=address, stdout=subprocess.DEVNULL)
        put_s = time.monotonic() - started
        started = time.monotonic()
        des("seal", "--all", address=address, stdout=subprocess.DEVNULL)
        seal_s = time.monotonic() - started
        started = time.monotonic()
        des(
            "get",
            "--manifest",
            str(manifest),
            "--output",
            str(back),
            address=address,
            stdout=subprocess.DEVNULL,
        )
        get_s = time.monotonic() - started
        shards = des("shards", "--all", "--json", address=address, stdout=subprocess.PIPE).stdout
        stored = sum(json.loads(line)["stored_files"] for line in shards.splitlines())
    finally:
        server.terminate()
        server.wait(60)

    returned = sums_of(back)
    wrong = {path for path in sums.keys() | returned.keys() if sums.get(path) != returned.get(path)}
    containers = list((data / "objects").rglob("*.des"))
    size = sum(path.stat().st_size for path in containers)
    print(f"put   {len(sums) / put_s:10,.0f} files/s {raw / put_s / 1e6:8.1f} MB/s  {put_s:6.1f} s")
    print(f"seal  {len(sums) / seal_s:10,.0f} files/s {raw / seal_s / 1e6:8.1f} MB/s  {seal_s:6.1f} s")
    print(f"get   {len(sums) / get_s:10,.0f} files/s {raw / get_s / 1e6:8.1f} MB/s  {get_s:6.1f} s")
    print(f"{stored:,} files stored in {len(containers)} containers of {size / 1e6:,.1f} MB in all")
    print(f"SHA-256 compared: {len(returned):,} read back, {len(wrong)} differ")
    for path in sorted(wrong)[:20]:
        print(f"  differs: {path}", file=sys.stderr)
    return 1 if wrong or not returned else 0


if __name__ == "__main__":
    sys.exit(main())
