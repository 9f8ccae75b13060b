"""`des config`: what a server here would run with, and whether that is right."""

from typing import Annotated, Any

import typer

from des.cli import options, settings
from des.cli.report import print_json, print_line, say
from des.config import Settings

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Show or check the settings."
)


@app.command()
def show(
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    listen: settings.Listen = None,
    http_listen: settings.HttpListen = None,
    sets: settings.Set = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="Leave out where values come from.")] = False,
    as_json: options.Json = False,
) -> None:
    """Print every setting `des serve` would run with, and where it comes from; passwords are hidden.

    Defaults give way to the file, the file to variables (DES_DATA_DIR, DES_SEAL__AGE_S), those to options.
    """
    given = settings.flags(sets, data_dir=data_dir, listen=listen, http_listen=http_listen)
    found = settings.load(config, given)
    _warn_of_strays()
    if as_json:
        print_json(_nested(found))
        return
    group = ""
    for key, value in settings.walk(found):
        above, _, name = key.rpartition(".")
        if above != group:
            print_line(f"{above}:")
            group = above
        line = f"{'  ' if above else ''}{name}: {settings.readable(value)}"
        source = settings.origin(key, config, given)
        print_line(line if source == "default" or defaults else f"{line}  # {source}")


@app.command()
def check(
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    listen: settings.Listen = None,
    http_listen: settings.HttpListen = None,
    sets: settings.Set = None,
) -> None:
    """Check the settings without starting anything: one line per mistake, and exit code 2."""
    settings.load(config, settings.flags(sets, data_dir=data_dir, listen=listen, http_listen=http_listen))
    _warn_of_strays()
    print_line("settings are right")


def _warn_of_strays() -> None:
    for stray in settings.strays():
        say(f"warning: {stray}")


def _nested(found: Settings) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in settings.walk(found):
        above, _, name = key.rpartition(".")
        (nested.setdefault(above, {}) if above else nested)[name] = settings.plain(value)
    return nested
