"""`des upgrade`: a v1 archive with what makes it open at once."""

from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from des.cli import archive as archives
from des.cli import options
from des.cli.archive_place import StorePlace, connected, new_archive, place_of
from des.cli.progress import metered
from des.cli.report import print_json, say
from des.core.rebuild import upgrade as add_ext
from des.core.store_file import StoreFile
from des.core.upgrade import Upgraded, ext_without_data, upgrade_in_store
from des.storage.object_store import CopyingUpload, ObjectStoreRefusedError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def upgrade(
    archive: archives.Archive,
    *,
    output: archives.NewArchive,
    read_all: Annotated[
        bool,
        typer.Option("--read-all", help="Read every file of an object too, and record its checksum."),
    ] = False,
    endpoint_url: archives.EndpointUrl = None,
    as_json: options.Json = False,
) -> None:
    """Write a copy of an archive with EXT: pages, filter, names and checksums behind its index.

    The files and the index are copied byte for byte, so whoever read the old archive reads the new one. Of
    a local archive every v1 file is read once, for its checksum. An object whose copy goes to the same
    bucket is copied there by the store itself: only its index and metadata are read, and files of which
    nobody ever recorded a checksum stay without one, unless --read-all says otherwise. Where the store
    cannot copy, the archive is read and written as any other.
    """
    source, target = place_of(archive, endpoint_url), place_of(output, endpoint_url)
    upgraded: Upgraded | None = None
    if not read_all and isinstance(source, StorePlace) and isinstance(target, StorePlace):
        upgraded = _in_store(archive, source, target)
    if upgraded is None:
        upgraded = _by_reading(archive, output, endpoint_url)
    footer = upgraded.footer
    if as_json:
        record = {"archive": output, "files": footer.file_count, "layout": footer.layout.value}
        print_json({**record, "unproven": upgraded.unproven})
    else:
        unproven = f", {upgraded.unproven:,} without a checksum as before" if upgraded.unproven else ""
        say(f"{output}: {footer.file_count:,} files{unproven}")


def _in_store(archive: str, source: StorePlace, target: StorePlace) -> Upgraded | None:
    """Let the store copy; None where it cannot, and nothing was written."""
    if source.store_url != target.store_url:
        return None
    with archives.translated(), connected(source) as (store, loop):
        upload = loop.wait(store.begin_upload(target.key, metadata={}))
        if not isinstance(upload, CopyingUpload):
            loop.wait(upload.abort())
            return None
        file = StoreFile(store, source.key, name=archive, loop=loop)
        upgraded, end = ext_without_data(file, uuid4())
        copying = upgrade_in_store(source.key, file.etag, upgraded.footer.index_stop, end, upload)
        try:
            loop.wait(copying)
        except ObjectStoreRefusedError:
            return None
    return upgraded


def _by_reading(archive: str, output: str, endpoint_url: str | None) -> Upgraded:
    with (
        archives.opened_raw(archive, endpoint_url) as file,
        new_archive(output, endpoint_url) as target,
        metered("Upgrading") as meter,
    ):
        meter.expect(0, file.size)
        return Upgraded(add_ext(file, Path(target), on_bytes=lambda size: meter.add(size=size)))
