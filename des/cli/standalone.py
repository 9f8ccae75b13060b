"""Commands that are programs of their own: `des-marker` and `des-packer`."""

import sys
from io import TextIOWrapper

import typer

from des.cli.exits import Exit, Failure
from des.cli.report import say


def run_program(app: typer.Typer, name: str) -> None:
    """Run the program; an outcome becomes an exit code as in `des` (docs/cli.md, "Exit codes")."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name=name)
    except Failure as failure:
        sys.stderr.write(f"{name}: {failure}\n")
        sys.exit(failure.code)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(Exit.INTERRUPTED)
