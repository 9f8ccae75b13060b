"""`des cost`: what files cost as objects of their own, and in containers."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from des.cli import costing, options
from des.cli.exits import Exit, Failure
from des.cli.report import print_json, print_line

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_SIZE = TypeAdapter(ByteSize)


def _bytes(text: str) -> int:
    try:
        return int(_SIZE.validate_python(text))
    except ValidationError:
        raise typer.BadParameter(f"found {text!r}, expected a size such as 10000, 10KB or 4KiB") from None


@app.command()
def cost(
    *,
    files: Annotated[float, typer.Option(min=1, help="How many files; 1e9 is a number.")],
    size: Annotated[str, typer.Option(metavar="BYTES", help="Mean size of a file.")],
    reads_per_day: Annotated[float, typer.Option(min=0, help="Files read in a day.")] = 0,
    storage_class: Annotated[
        str, typer.Option("--class", metavar="NAME", help=f"One of: {', '.join(costing.CLASSES)}.")
    ] = "standard",
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file of other prices, in place of --class.")
    ] = None,
    put_per_1000: Annotated[float | None, typer.Option(min=0, metavar="USD", help="1,000 writes.")] = None,
    get_per_1000: Annotated[float | None, typer.Option(min=0, metavar="USD", help="1,000 reads.")] = None,
    storage_per_gb: Annotated[
        float | None, typer.Option(min=0, metavar="USD", help="A gigabyte for a month.")
    ] = None,
    retrieval_per_gb: Annotated[
        float | None, typer.Option(min=0, metavar="USD", help="A gigabyte read.")
    ] = None,
    minimum_object: Annotated[
        str | None, typer.Option(metavar="BYTES", help="What a smaller object is billed as.")
    ] = None,
    container: Annotated[str, typer.Option(metavar="BYTES", help="Size of a container.")] = "256MiB",
    ratio: Annotated[
        float, typer.Option(min=0.01, help="Stored bytes to a file's own: 0.5 where it is halved.")
    ] = 1.0,
    cold: Annotated[
        float, typer.Option(min=0, max=1, help="Share of reads that find no index page in a cache.")
    ] = 0.1,
    stored: Annotated[
        bool, typer.Option("--stored", help="Files are shipped before they are sealed (durability stored).")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show what files cost as objects of their own and in containers: requests, bytes, dollars.

    Counted are the object store's storage and requests. Not counted are traffic out of its region and the
    machines that DES runs on. `--prices FILE` and the options for single prices replace the list prices,
    whose source and date are printed.
    """
    chosen = _prices(storage_class, prices)
    changes = {
        "put_per_1000": put_per_1000,
        "get_per_1000": get_per_1000,
        "retrieval_per_gb": retrieval_per_gb,
        "minimum_object_bytes": None if minimum_object is None else _bytes(minimum_object),
        "storage": None if storage_per_gb is None else (costing.Tier(usd=storage_per_gb),),
    }
    given = {name: value for name, value in changes.items() if value is not None}
    if given:
        chosen = chosen.model_copy(update=given)
    try:
        load = costing.Load(
            files=round(files),
            size_bytes=_bytes(size),
            reads_per_day=reads_per_day,
            container_bytes=_bytes(container),
            ratio=ratio,
            cold=cold,
            stored=stored,
        )
    except ValueError as error:
        raise Failure(str(error), code=Exit.USAGE) from None
    found = costing.compare(load, chosen)
    source = chosen.source + ("; some prices given" if given else "")
    if as_json:
        print_json({"plain": found.plain.record(), "des": found.des.record(), "source": source})
        return
    _show(found, source)


def _prices(storage_class: str, path: Path | None) -> costing.Prices:
    if path is not None:
        try:
            return costing.read_prices(path)
        except costing.PriceError as error:
            raise Failure(str(error), code=Exit.USAGE) from None
    if storage_class not in costing.CLASSES:
        raise Failure(
            f"found the class {storage_class!r}, expected one of {', '.join(costing.CLASSES)}",
            code=Exit.USAGE,
        )
    return costing.CLASSES[storage_class]


def _show(found: costing.Comparison, source: str) -> None:
    plain, des = found.plain, found.des
    rows: tuple[tuple[str, float, float, str], ...] = (
        ("objects", plain.objects, des.objects, ",.0f"),
        ("stored GB", plain.stored_gb, des.stored_gb, ",.1f"),
        ("billed GB", plain.billed_gb, des.billed_gb, ",.1f"),
        ("write requests", plain.puts, des.puts, ",.0f"),
        ("read requests a month", plain.gets_month, des.gets_month, ",.0f"),
        ("writing, once, USD", plain.write_usd, des.write_usd, ",.2f"),
        ("storage a month, USD", plain.storage_usd_month, des.storage_usd_month, ",.2f"),
        ("reads a month, USD", plain.reads_usd_month, des.reads_usd_month, ",.2f"),
        ("first year, USD", plain.first_year_usd(), des.first_year_usd(), ",.2f"),
    )
    print_line(f"{'':<24}{'an object each':>18}{'in containers':>18}")
    for name, one, other, form in rows:
        print_line(f"{name:<24}{format(one, form):>18}{format(other, form):>18}")
    print_line(f"prices: {source or 'given'}")
