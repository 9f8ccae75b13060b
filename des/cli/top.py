"""`des top`: how a server is, in the terminal: what its status page shows, again and again."""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from des.cli import text
from des.cli.exits import Exit, Failure
from des.cli.report import print_json, print_line

app = typer.Typer(add_completion=False, rich_markup_mode=None)

DEFAULT_URL: Final = "http://127.0.0.1:7421"
ANSWER_BYTES_MAX: Final = 16 << 20
BLOCKS: Final = " ▁▂▃▄▅▆▇█"
STATE_STYLES: Final = {"ok": "green", "degraded": "yellow", "failed": "red", "unknown": "dim"}
SHARD_STYLES: Final = {
    "sealing": "blue",
    "recovering": "magenta",
    "unowned": "red",
    "read_only": "red",
}
TROUBLES_SHOWN: Final = 5
AGES: Final = ((21_600, "red"), (3600, "yellow"), (600, "green"), (0, "cyan"))
"""Colour of a shard by the age of its oldest open file, in seconds, from this on."""


@app.command()
def top(
    *,
    url: Annotated[
        str, typer.Option(envvar="DES_HTTP_ADDRESS", help="Address of the server's HTTP port.")
    ] = DEFAULT_URL,
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Each look as one line of JSON.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for one look.")] = 10.0,
) -> None:
    """Show health, throughput, backlog, shards and troubles of a server until Ctrl-C.

    Where the output is no terminal, each look is one line. DES_TOKEN says who asks; DES_CA is the authority
    of a server with TLS.
    """
    address = url if "://" in url else f"http://{url}"
    if not address.startswith(("http://", "https://")):
        raise Failure(f"{url!r} is no address of an HTTP port", code=Exit.USAGE)
    context = ssl.create_default_context(cafile=os.environ.get("DES_CA") or None)

    def look() -> dict[str, Any]:
        return ask(f"{address.rstrip('/')}/status.json", timeout_s=timeout_s, context=context)

    if as_json or once or not sys.stdout.isatty():
        _plain(look, every=None if once else every, as_json=as_json)
    else:
        _live(look, every)


def ask(url: str, *, timeout_s: float, context: ssl.SSLContext | None = None) -> dict[str, Any]:
    """Return what a server tells of itself.

    Raises:
        Failure: it does not answer, refuses, or is no DES server.
    """
    request = urllib.request.Request(url)  # noqa: S310  the user's own address, http or https
    if token := os.environ.get("DES_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as answer:  # noqa: S310
            told = json.loads(answer.read(ANSWER_BYTES_MAX))
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            raise Failure(f"{url} tells callers apart: set DES_TOKEN to a key with `shards`") from error
        raise Failure(f"{url} answers {error.code}", code=Exit.UNAVAILABLE) from error
    except OSError as error:
        raise Failure(f"{url} does not answer: {error}", code=Exit.UNAVAILABLE) from error
    except ValueError as error:
        raise Failure(f"what answers at {url} is no DES server") from error
    if not isinstance(told, dict) or "health" not in told:
        raise Failure(f"what answers at {url} is no DES server")
    return told


def _plain(look: Any, *, every: float | None, as_json: bool) -> None:
    while True:
        told = look()
        if as_json:
            print_json(told)
        else:
            print_line(line_of(told))
        if every is None:
            return
        time.sleep(every)


def _live(look: Any, every: float) -> None:
    with Live(picture(look()), console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            try:
                live.update(picture(look()), refresh=True)
            except Failure as failure:
                live.update(Text(str(failure), "red"), refresh=True)


def line_of(told: dict[str, Any]) -> str:
    """Return a look as one line."""
    totals, history = told["totals"], told["history"]
    parts = [
        state_of(told),
        f"put {_last(history['put_files']):.0f}/s",
        f"get {_last(history['get_files']):.0f}/s",
        f"open {totals.get('open_files', 0)}",
        f"oldest {_oldest_s(told):.0f} s",
        f"stored {totals.get('stored_files', 0)} in {totals.get('containers', 0)} containers",
    ]
    return "  ".join(parts)


def state_of(told: dict[str, Any]) -> str:
    """Return how the server is, in a few words."""
    health = told["health"]
    if not health["readable"]:
        return f"not serving: {health['cause']}"
    if not health["writable"]:
        return f"read only: {health['cause']}"
    bad = [one["check"] for one in health["checks"] if one["state"] in {"degraded", "failed"}]
    return f"serving, {', '.join(bad)} not well" if bad else "serving"


def picture(told: dict[str, Any]) -> Group:
    """Return a look as a screen."""
    totals, history = told["totals"], told["history"]
    state = state_of(told)
    style = "green" if state == "serving" else "yellow" if state.startswith("serving") else "red"
    head = Text.assemble(("DES ", "bold"), told["version"], "  ", (state, f"bold {style}"), f"  {_who(told)}")
    if told["stale"]:
        head.append("  the catalog does not answer, old numbers", "yellow")
    rates = Table.grid(padding=(0, 2))
    for name, key, show in (
        ("puts/s", "put_files", lambda value: f"{value:.0f}"),
        ("gets/s", "get_files", lambda value: f"{value:.0f}"),
        ("put bytes/s", "put_bytes", text.size),
        ("get bytes/s", "get_bytes", text.size),
        ("waiting for a seal", "backlog_bytes", text.size),
    ):
        values = history[key]
        rates.add_row(name, Text(show(_last(values)), "bold"), Text(sparkline(values[-60:]), "cyan"))
    sums = (
        f"{totals.get('stored_files', 0):,} files, {text.size(totals.get('stored_bytes', 0))} in "
        f"{totals.get('containers', 0):,} containers; {totals.get('open_files', 0):,} open, "
        f"the oldest {_oldest_s(told):.0f} s old"
    )
    checks = Table.grid(padding=(0, 2))
    for one in told["health"]["checks"]:
        mark = Text(one["state"], STATE_STYLES.get(one["state"], ""))
        checks.add_row(
            one["check"] + _worker(one), mark, one["found"] + (f" - {one['advice']}" if one["advice"] else "")
        )
    troubles = Table.grid(padding=(0, 2))
    for one in told["troubles"][:TROUBLES_SHOWN]:
        at = time.strftime("%H:%M:%S", time.localtime(one["at_ms"] / 1000))
        troubles.add_row(at, Text(one["event"], "yellow"), one["facts"] + _worker(one), f"x{one['times']}")
    return Group(
        head, Text(sums), Text(), rates, Text(), _strip(told["grid"]), Text(), checks, Text(), troubles
    )


def sparkline(values: Sequence[float]) -> str:
    """Return values as a line of blocks, the largest one full.

    >>> sparkline([0, 1, 2, 4])
    ' ▂▄█'
    """
    most = max(values, default=0)
    return "".join(BLOCKS[round(value / most * (len(BLOCKS) - 1))] if most else BLOCKS[0] for value in values)


def _strip(grid: Sequence[dict[str, Any]]) -> Text:
    strip = Text()
    for cell in grid:
        if cell["state"] != "active":
            strip.append("■", SHARD_STYLES.get(cell["state"], "red"))
        elif cell["age_s"] is None:
            strip.append("·", "dim")
        else:
            strip.append("■", next(style for age, style in AGES if cell["age_s"] >= age))
    return strip


def _who(told: dict[str, Any]) -> str:
    """Return who told: a node, or all workers of a port."""
    return f"{told['workers']} workers" if "workers" in told else f"node {told['node'][:8]}"


def _worker(one: dict[str, Any]) -> str:
    return f" (worker {one['worker']})" if "worker" in one else ""


def _last(values: Sequence[float]) -> float:
    return values[-1] if values else 0.0


def _oldest_s(told: dict[str, Any]) -> float:
    return max((cell["age_s"] or 0.0 for cell in told["grid"]), default=0.0)
