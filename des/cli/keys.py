"""`des keys`: API keys of a store, made and revoked on the machine that serves it."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from des_server.security.api_keys import ApiKey, ApiKeyFile
from des_server.security.authenticate import api_key_file
from des_server.security.principal import Grant, Verb

from des.cli import options, settings
from des.cli.exits import Exit, Failure
from des.cli.report import Report
from des.clock import SystemClock
from des.errors import DesError

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Make, list and revoke the API keys of a store."
)
DAY_MS: Final = 86_400_000


@app.command()
def create(
    *,
    verbs: Annotated[
        str, typer.Option("--verbs", help="Some of assign,read,write,delete,list,shards,admin.")
    ],
    prefix: Annotated[str, typer.Option("--prefix", help="Only names that begin so; '' for all.")] = "",
    days: Annotated[
        float | None, typer.Option("--days", min=0.0001, help="How long it is good; for ever without.")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="What it is for, for whoever lists the keys.")] = "",
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Make a key and print it. It is shown this once: the store keeps only its hash."""
    try:
        wanted = frozenset(Verb(one.strip()) for one in verbs.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"{error}, expected some of {','.join(Verb)}", param_hint="--verbs"
        ) from None
    expires_ms = None if days is None else int(time.time() * 1000 + days * DAY_MS)
    try:
        made, key = _file(config, data_dir).create([Grant(wanted, prefix)], expires_ms=expires_ms, note=note)
    except (DesError, OSError) as error:
        raise Failure(str(error), code=Exit.FAILED) from None
    Report(as_json=as_json).done({"id": made.key_id, "key": key}, key, size=0)


@app.command("list")
def list_keys(
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """List the keys: what they may do, never what they are."""
    report = Report(as_json=as_json)
    try:
        keys = _file(config, data_dir).keys()
    except DesError as error:
        raise Failure(str(error), code=Exit.FAILED) from None
    for key in keys.values():
        report.done(
            {
                "id": key.key_id,
                "grants": [{"verbs": sorted(each.verbs), "prefix": each.prefix} for each in key.grants],
                "created": _time(key.created_ms),
                "expires": "" if key.expires_ms is None else _time(key.expires_ms),
                "note": key.note,
            },
            _line(key),
            size=0,
        )


@app.command()
def revoke(
    key_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `des keys list` shows them.")],
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
) -> None:
    """Revoke keys. A running server refuses them from its next call on."""
    file = _file(config, data_dir)
    try:
        unknown = [key_id for key_id in key_ids if not file.revoke(key_id)]
    except (DesError, OSError) as error:
        raise Failure(str(error), code=Exit.FAILED) from None
    if unknown:
        raise Failure(f"no key has the id {unknown[0]!r}", code=Exit.NOT_FOUND)


def _file(config: Path | None, data_dir: Path | None) -> ApiKeyFile:
    return api_key_file(settings.load(config, settings.flags(None, data_dir=data_dir)), SystemClock())


def _line(key: ApiKey) -> str:
    may = "; ".join(f"{','.join(sorted(each.verbs))} on {each.prefix or '*'}" for each in key.grants)
    until = "for ever" if key.expires_ms is None else f"until {_time(key.expires_ms)}"
    return "  ".join(filter(None, (key.key_id, may, until, key.note)))


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
