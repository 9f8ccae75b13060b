"""`des top` against a real server: lines, JSON, the screen, and what it says when nobody answers."""

import io
import json
import subprocess
import sys

import httpx
import pytest
from rich.console import Console

from des.cli.top import line_of, picture, sparkline, state_of
from des.config import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path, listen="127.0.0.1:0", http_listen="127.0.0.1:0", shard_bits=4)


async def told(server):
    async with httpx.AsyncClient(timeout=30) as http:
        return (await http.get(f"http://{server.http_address}/status.json")).json()


async def test_a_look_is_a_line_and_a_screen(server, double):
    look = await told(server)
    assert line_of(look).startswith("serving  put 0/s  get 0/s  open 16  oldest 2 s  stored 32 in 16")
    console = Console(width=120, record=True, file=io.StringIO())
    look["health"]["checks"] = [
        {"check": "disk", "state": "degraded", "found": "little", "advice": "free disk"}
    ]
    look["troubles"] = [{"at_ms": 0, "event": "seal failed", "facts": "error=x", "times": 3}]
    console.print(picture(look))
    shown = console.export_text()
    for words in ("serving, disk not well", "32 files", "■" * 16, "little - free disk", "seal failed", "x3"):
        assert words in shown
    look["health"] |= {"writable": False, "cause": "the log failed"}
    assert state_of(look) == "read only: the log failed"


def test_a_line_of_blocks():
    assert sparkline([0, 1, 2, 4]) == " ▂▄█"
    assert sparkline([0, 0]) == "  "
    assert sparkline([]) == ""


async def run(*arguments, **more):
    import asyncio  # noqa: PLC0415

    command = [sys.executable, "-m", "des.cli", "top", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=100, check=False, **more
    )


async def test_the_command_writes_lines_where_there_is_no_terminal(server):
    ran = await run("--once", "--url", str(server.http_address))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("serving  put 0/s")
    ran = await run("--once", "--json", "--url", f"http://{server.http_address}")
    assert json.loads(ran.stdout)["totals"]["shards"] == 16


async def test_nobody_there(server):
    ran = await run("--once", "--url", "127.0.0.1:9")
    assert ran.returncode == 3
    assert "does not answer" in ran.stderr
    ran = await run("--once", "--url", "ftp://x")
    assert ran.returncode == 2
