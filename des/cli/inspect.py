"""`des inspect`: what an archive is made of."""

from typing import Any

import typer

from des.cli import archive as archives
from des.cli import options, text
from des.cli.report import print_json, print_line
from des.core.byte_source import ByteSource
from des.core.checkup import section_name
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.ext import OpenedContainer, open_end, read_section
from des.format.ext_trailer import Feature
from des.format.header import HEADER_SIZE, check_header
from des.format.section_table import SectionKind
from des.format.stats import STATS_LENGTH_MAX, Stats

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def inspect(
    archive: archives.Archive,
    *,
    endpoint_url: archives.EndpointUrl = None,
    as_json: options.Json = False,
) -> None:
    """Show layout, sections, dictionaries and counts of an archive, without reading its files.

    Costs a few small reads, however many files there are.
    """
    with archives.opened_raw(archive, endpoint_url) as file:
        record = describe(file)
    if as_json:
        print_json(record)
        return
    for key, value in record.items():
        if key == "sections":
            for section in value:
                print_line(
                    f"  {section['name']:<10} {section['length']:>15,} bytes at {section['start']:,}"
                    + (f", {section['count']:,} entries" if section.get("count") else "")
                )
        elif key == "dictionaries":
            lengths = ", ".join(text.size(length) for length in value)
            print_line(f"{'dictionaries':<14} {lengths or 'none'}")
        elif value is not None:
            print_line(f"{key:<14} {_shown(value)}")


def describe(file: ByteSource) -> dict[str, Any]:
    """Return what the end of a container, and its dictionaries' directory, say."""
    opened = file.drive(open_end(file.size))
    check_header(file.read(ByteRange(0, HEADER_SIZE)))
    footer, stats = opened.footer, _stats(file, opened)
    lengths: tuple[int, ...] = ()
    if footer.data_start > HEADER_SIZE:
        lengths = file.drive(Dictionaries(footer.data_start).read_directory()).lengths
    return {
        "archive": file.name,
        "size": file.size,
        "layout": footer.layout.value,
        "files": footer.file_count,
        "container_id": None if opened.ext is None else opened.ext.uuid.hex(),
        "features": []
        if opened.ext is None
        else [one.name.lower() for one in Feature(opened.ext.trailer.features) if one.name],
        "file_bytes": None if stats is None else stats.data_bytes,
        "stored_bytes": None if stats is None else stats.stored_bytes,
        "external_files": None if stats is None else stats.external_files,
        "name_first": None if stats is None else stats.name_first,
        "name_last": None if stats is None else stats.name_last,
        "dictionaries": lengths,
        "sections": _sections(opened),
    }


def _sections(opened: OpenedContainer) -> list[dict[str, Any]]:
    footer = opened.footer
    found: list[dict[str, Any]] = [
        {"name": "DATA", "start": footer.data_start, "length": footer.data_length},
        {"name": "META", "start": footer.meta_start, "length": footer.meta_length},
        {"name": "INDEX", "start": footer.index_start, "length": footer.index_length},
    ]
    if footer.data_start > HEADER_SIZE:
        found.insert(0, {"name": "ZDICT", "start": HEADER_SIZE, "length": footer.data_start - HEADER_SIZE})
    if opened.ext is not None:
        found += [
            {
                "name": section_name(section),
                "start": section.start,
                "length": section.length,
                "count": section.count,
            }
            for section in opened.ext.sections
        ]
    return found


def _stats(file: ByteSource, opened: OpenedContainer) -> Stats | None:
    section = None if opened.ext is None else opened.ext.section(SectionKind.STATS)
    if section is None:
        return None
    return Stats.decode(file.drive(read_section(section, length_max=STATS_LENGTH_MAX)))


def _shown(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(value) or "none" if isinstance(value, list) else text.escape(str(value))
