"""`des stat`: what is known about files."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from des_client import DesClientError, FileInfo, Unavailable

from des.cli import options, text
from des.cli.connection import connected, failure
from des.cli.report import Report

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def stat(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of the files.")],
    *,
    timeout_s: options.Timeout = options.DEFAULT_TIMEOUT_S,
    as_json: options.Json = False,
    address: options.Address = options.DEFAULT_ADDRESS,
) -> None:
    """Show size, checksums, state, times, metadata and place of files, without reading them."""
    report = Report(as_json=as_json)
    with connected(address, timeout_s=timeout_s) as client:
        for name in names:
            try:
                file = client.stat(name)
            except Unavailable:
                raise
            except DesClientError as error:
                report.failed({"name": name}, failure(error))
            else:
                block = describe(file)
                report.done(record(file), f"\n{block}" if report.done_count else block, size=file.size_bytes)
    report.end()


def record(file: FileInfo) -> dict[str, Any]:
    """Return a file as a JSON object."""
    place = file.placement
    return {
        "name": file.name,
        "shard": file.shard_id,
        "size": file.size_bytes,
        "crc32c": text.checksum(file.crc32c),
        "sha256": None if file.sha256 is None else file.sha256.hex(),
        "content_type": file.content_type,
        "state": file.state.lower(),
        "created": text.iso(file.create_time),
        "sealed": text.iso(file.seal_time),
        "deleted": text.iso(file.delete_time),
        "metadata": dict(file.metadata),
        "placement": None
        if place is None
        else {
            "container_id": place.container_id,
            "data_offset": place.data_offset,
            "data_length": place.data_length,
            "external_key": place.external_key,
        },
    }


def describe(file: FileInfo) -> str:
    """Return a file as lines for people; what is unknown is left out."""
    rows = [
        ("name", file.name),
        (
            "size",
            f"{file.size_bytes:,} bytes"
            + (f" ({text.size(file.size_bytes)})" * (file.size_bytes >= text.KIB)),
        ),
        ("type", file.content_type),
        ("state", file.state.lower()),
        ("shard", str(file.shard_id)),
        ("created", _with_age(file.create_time)),
        ("sealed", _with_age(file.seal_time)),
        ("deleted", _with_age(file.delete_time)),
        ("crc32c", text.checksum(file.crc32c) or ""),
        ("sha256", "" if file.sha256 is None else file.sha256.hex()),
    ]
    if (place := file.placement) is not None:
        rows += [
            ("container", place.container_id),
            ("bytes", f"{place.data_length:,} at {place.data_offset:,}" if place.container_id else ""),
            ("object", text.escape(place.external_key)),
        ]
    rows += [("metadata", f"{key} = {text.escape(value)}") for key, value in sorted(file.metadata.items())]
    return "\n".join(f"{key:<10} {value}" for key, value in rows if value)


def _with_age(time: datetime | None) -> str:
    if time is None:
        return ""
    ago_s = (datetime.now(UTC) - time).total_seconds()
    return f"{text.iso(time)}" + (f" ({text.age(ago_s)} ago)" if ago_s >= 0 else "")
