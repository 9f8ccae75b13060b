"""`des ls`: the files of an archive."""

from typing import Annotated

import typer

from des.cli import archive as archives
from des.cli import options, text
from des.cli.report import print_json, print_line

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def ls(
    archive: archives.Archive,
    *,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Only names that start with it.")] = "",
    long: Annotated[bool, typer.Option("--long", "-l", help="Length, stored length and type too.")] = False,
    endpoint_url: archives.EndpointUrl = None,
    as_json: options.Json = False,
) -> None:
    """List names, sorted; with --long, `LENGTH  STORED  NAME  TYPE`.

    Names are escaped: one line each, whatever is in them.
    """
    with archives.opened(archive, endpoint_url) as reader:
        for name in reader.list_files(prefix):
            if not (long or as_json):
                print_line(text.escape(name))
                continue
            file = reader.stat(name)
            stored = 0 if file.entry.is_external else file.entry.data_length
            system = file.metadata.system
            if as_json:
                print_json(
                    {
                        "name": name,
                        "size": file.size,
                        "stored": stored,
                        "compressed": file.entry.is_compressed,
                        "external_key": file.metadata.external_key,
                        "crc32c": text.checksum(system.crc32c),
                        "content_type": system.content_type,
                        "metadata": dict(file.metadata.user),
                    }
                )
            else:
                print_line(
                    f"{file.size:>12,}  {stored:>12,}  {text.escape(name)}  {system.content_type}".rstrip()
                )
