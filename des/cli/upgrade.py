"""`des upgrade`: a v1 archive with what makes it open at once."""

import typer

from des.cli import archive as archives
from des.cli import options
from des.cli.progress import metered
from des.cli.report import print_json, say
from des.core.rebuild import upgrade as add_ext

app = typer.Typer(rich_markup_mode=None)


@app.command()
def upgrade(archive: archives.Archive, *, output: archives.NewArchive, as_json: options.Json = False) -> None:
    """Write a copy of an archive with EXT: pages, filter, names and checksums behind its index.

    The files and the index are copied byte for byte, so whoever read the old archive reads the new one.
    Every file of a v1 archive is read once, for its checksum.
    """
    with archives.opened_raw(archive) as file, metered("Upgrading") as meter:
        meter.expect(0, file.size)
        footer = add_ext(file, archives.local(output), on_bytes=lambda size: meter.add(size=size))
    if as_json:
        print_json({"archive": output, "files": footer.file_count, "layout": footer.layout.value})
    else:
        say(f"{output}: {footer.file_count:,} files")
