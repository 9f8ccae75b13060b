"""`des repair`: a new archive of what can still be read of a damaged one."""

import typer

from des.cli import archive as archives
from des.cli import options
from des.cli.archive_place import new_archive
from des.cli.exits import Exit
from des.cli.progress import metered
from des.cli.report import Report, print_json, say
from des.core.rebuild import rebuild

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def repair(
    archive: archives.Archive,
    *,
    output: archives.NewArchive,
    endpoint_url: archives.EndpointUrl = None,
    as_json: options.Json = False,
) -> None:
    """Write a new archive of every file that is whole in a damaged one, which is only read.

    Where the index is readable, its files are checked one by one. Where it is lost, files are found by
    walking the frames from the start, up to the first that is damaged; the layout v1 has no frames.

    Exit code 1 when files were lost, 6 when nothing could be saved.
    """
    report = Report(as_json=as_json)
    with (
        archives.opened_raw(archive, endpoint_url) as file,
        new_archive(output, endpoint_url) as target,
        metered("Repairing") as meter,
    ):
        meter.expect(0, file.size)
        rebuilt = rebuild(file, target, on_bytes=lambda size: meter.add(size=size))
    for problem in rebuilt.lost:
        report.failed({"name": problem.where}, archives.failure(problem.error))
    if as_json:
        print_json(
            {
                "archive": output,
                "kept": rebuilt.kept,
                "lost": len(rebuilt.lost),
                "from_frames": rebuilt.from_frames,
                "unread_from": rebuilt.unread_from,
            }
        )
    else:
        how = (
            f"found by their frames up to byte {rebuilt.unread_from:,}"
            if rebuilt.from_frames
            else "of the index"
        )
        say(f"{output}: {rebuilt.kept:,} files kept, {how}; {len(rebuilt.lost):,} lost")
    if rebuilt.lost:
        raise typer.Exit(Exit.FAILED)
