"""Uses an installed DES as its first user does: smoke.py BIN, the folder with the commands."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from des_client import DesClient

LISTEN = ("--listen", "127.0.0.1:0", "--http-listen", "")


def main() -> None:
    """Serve, put, get, pack, unpack; any surprise is an exception."""
    commands = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        server = subprocess.Popen(
            [commands / "des", "serve", "--data-dir", data / "store", *LISTEN],
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            address = re.search(r"127\.0\.0\.1:\d+", line)
            assert address, line
            with DesClient(address[0]) as des:
                name = des.put(b"hello").file.name
                assert des.get(name) == b"hello"
                for shard in des.shard_status():
                    if shard.open_files:
                        des.seal_shard(shard.shard_id)
                assert des.stat(name).state == "stored"
                assert des.get(name) == b"hello"
        finally:
            server.terminate()
            assert server.wait(60) == 0
        (data / "in").mkdir()
        (data / "in" / "file").write_bytes(b"content")
        for arguments in (
            ("pack", "in", "-o", "archive.des"),
            ("verify", "archive.des", "--deep"),
            ("unpack", "archive.des", "-C", "out"),
        ):
            subprocess.run([commands / "des", *arguments], cwd=folder, check=True, timeout=60)
        assert (data / "out" / "file").read_bytes() == b"content"
        subprocess.run([commands / "des-server", "--help"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    print(f"the installed distributions work ({time.process_time():.1f} s of processor)")


if __name__ == "__main__":
    main()
