"""`des verify`: whether an archive is what was written."""

from typing import Annotated

import typer

from des.cli import archive as archives
from des.cli import options
from des.cli.exits import Exit, Failure
from des.cli.progress import metered
from des.cli.report import Report, print_json, say
from des.core import DesReader
from des.core.checkup import Problem, check_blocks, check_files, check_for_origin, check_structure

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def verify(
    archive: archives.Archive,
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte, of every file too.")] = False,
    v1: Annotated[
        bool, typer.Option("--v1", help="Say whether the origin's readers would read it right too.")
    ] = False,
    endpoint_url: archives.EndpointUrl = None,
    as_json: options.Json = False,
) -> None:
    """Check header, footer, index, dictionaries and every section; with --deep every file as well.

    One line for each thing that is wrong. Exit code 6 when something is; 1 when the archive is sound, but
    not for the origin's readers.
    """
    report = Report(as_json=as_json)
    with archives.opened_raw(archive, endpoint_url) as file, metered("Verifying") as meter:
        opened, index, problems = check_structure(file)
        for problem in problems:
            _bad(report, problem)
        if v1 and (obstacle := check_for_origin(index)) is not None:
            _bad(report, obstacle, code=Exit.FAILED)
        if deep:
            for problem in check_blocks(file, opened):
                _bad(report, problem)
            meter.expect(len(index), opened.footer.data_length)
            with DesReader(file) as reader:
                for entry, wrong in check_files(reader):
                    if wrong is not None:
                        _bad(report, wrong)
                    meter.add(files=1, size=entry.data_length)
    verdict = {
        "archive": archive,
        "layout": opened.footer.layout.value,
        "files": len(index),
        "problems": report.failed_count,
        "deep": deep,
    }
    if as_json:
        print_json(verdict)
    elif not report.failures:
        read = "every byte" if deep else "structure; --deep reads the files"
        say(f"{archive}: sound ({read}), {len(index):,} files, layout {opened.footer.layout.value}")
    report.end()


def _bad(report: Report, problem: Problem, *, code: Exit = Exit.CORRUPT) -> None:
    cause = archives.failure(problem.error)
    report.failed({"where": problem.where}, Failure(str(cause), code=code, reason=cause.reason))
