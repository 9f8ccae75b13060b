"""The root command: verbs are imported when they are used, so that `des --help` is quick."""

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from des import __version__
from des.cli.exits import Exit, Failure, os_error

VERBS: Final = {
    "serve": "Run a server on this machine.",
    "put": "Store files, folders or stdin.",
    "get": "Fetch files by name, or a whole manifest into a folder.",
    "cat": "Write a file's bytes to stdout.",
    "stat": "Show what is known about files.",
    "find": "List a store's files by day, shard or beginning of the name.",
    "rm": "Delete files by name.",
    "wait": "Wait until files are in the object store.",
    "assign": "Reserve names without storing anything yet.",
    "shards": "Show what each shard holds.",
    "top": "Watch a server: health, throughput, shards, troubles.",
    "shard-bits": "Show, or change, into how many shards a cluster divides its store.",
    "seal": "Move a shard's open files into a container now.",
    "pack": "Pack a folder into an archive.",
    "unpack": "Write an archive's files below a folder.",
    "ls": "List the files of an archive.",
    "inspect": "Show what an archive is made of.",
    "verify": "Check an archive, or every byte of it.",
    "repair": "Save what is whole in a damaged archive.",
    "export": "Write an archive as tar or zip.",
    "upgrade": "Add to an archive what makes it open at once.",
    "sources": "Check the source databases that rows are packed from.",
    "keys": "Make, list and revoke API keys.",
    "health": "Ask a running server whether it is ready, for probes.",
    "doctor": "Check that everything a server needs is there.",
    "cost": "Work out what files cost, as objects of their own and in containers.",
    "fsck": "Check that the store holds what its catalog says.",
    "gc": "Show, or delete, the objects that are nobody's.",
    "recover": "Show what crashes left behind, and settle what can be.",
    "migrate": "Bring the catalog's tables to this version.",
    "rebuild-catalog": "Make a lost catalog anew from the object store.",
    "config": "Show or check the settings.",
    "version": "Show the versions of this command and of the server.",
}
"""Verb -> what it does, in one line. Each is the module `des.cli.<verb>` with a Typer `app`."""

MODULES: Final = {
    "sources": "source_databases",
    "rebuild-catalog": "rebuild_catalog",
    "shard-bits": "shard_bits",
}
"""Verbs whose module has another name."""

EXIT_CODES: Final = """\
Exit codes: 0 done; 1 some or all items failed; 2 usage or configuration; 3 server unreachable
or unavailable; 4 not found; 5 name taken by other content; 6 data corrupt; 7 deadline passed;
130 interrupted.
"""


class Verbs(TyperGroup):
    """The root group: a verb's module is loaded when the verb is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  Click's interface
        """Return the verbs, most used first."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  Click's interface
        """Load one verb."""
        if cmd_name not in VERBS:
            return None
        return typer.main.get_command(import_module(f"des.cli.{MODULES.get(cmd_name, cmd_name)}").app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  Click's interface
        """List the verbs without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: Any) -> Any:
        """Run a verb; the one place where an outcome becomes an exit code."""
        try:
            outcome = super().invoke(ctx)
            sys.stdout.flush()
        except Failure as failure:
            print(f"des: {failure}", file=sys.stderr)  # noqa: T201  a command prints
            raise typer.Exit(failure.code) from None
        except KeyboardInterrupt:
            print("des: interrupted", file=sys.stderr)  # noqa: T201  a command prints
            raise typer.Exit(Exit.INTERRUPTED) from None
        except BrokenPipeError:
            _forget_output()
            raise typer.Exit(Exit.BROKEN_PIPE) from None
        except OSError as error:
            # A disk that is full or a place that is closed to the user, stdout's among them.
            print(f"des: {os_error(error)}", file=sys.stderr)  # noqa: T201  a command prints
            try:
                sys.stdout.flush()
            except OSError:
                _forget_output()
            raise typer.Exit(Exit.FAILED) from None
        return outcome


def _forget_output() -> None:
    """Let nothing more be written: the interpreter flushes stdout once more at exit, to nobody's use."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)


def _version(asked: bool) -> None:  # noqa: FBT001  Typer's callback interface
    if asked:
        typer.echo(f"des {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Server to talk to; the verbs take it too.", show_default=False
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001  acts in its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Store millions to billions of small files, and read any of them back.

    Start with `des serve`, then `des put FILE` and `des get NAME`. Each verb explains itself:
    `des put --help`. The server is 127.0.0.1:7420 unless --address or DES_ADDRESS says otherwise.
    """
    del address  # The verbs' own option looks here (des.cli.options).


def main() -> None:
    """Run the command `des`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A name that the terminal's encoding lacks is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    # gRPC's core would write its own lines between ours; what matters comes back as an error.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    app(prog_name="des")
