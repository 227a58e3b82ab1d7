"""`longact report`: tables and figures from the tracked runs of a study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longact_cli.cli import options as opt

if TYPE_CHECKING:
    from longact_cli.reporting.pivot import Pivot


@opt.guarded
def report(
    experiment: Annotated[
        str | None,
        typer.Option(
            "--experiment", help="Study, or a comma list read as one; default: the only one."
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            "--table",
            help="main, ruler, infinitebench, sparsity, algorithms, sizes, controls, protocols, "
            "compute, scores; a comma list, or all. Default: sparsity.",
        ),
    ] = None,
    formats: Annotated[
        str,
        typer.Option("--format", help="md, tex, csv, json, html; figures: pdf, svg, png."),
    ] = "md,tex,csv,json,html,pdf,svg",
    rows: Annotated[
        str | None, typer.Option("--rows", help="Fields down the side, e.g. mask,sparsity.")
    ] = None,
    cols: Annotated[
        str | None, typer.Option("--cols", help="Fields across the top, e.g. bench,length.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", help="Keep FIELD=VALUE[,VALUE]; repeatable.")
    ] = None,
    claims: Annotated[
        bool,
        typer.Option("--claims", help="The checklist of claims, alone unless --table is given."),
    ] = False,
    siunitx: Annotated[
        bool, typer.Option("--siunitx", help="LaTeX columns align at the decimal point.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; default: RUNS_DIR/reports/STUDY.")
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Read all anew, also what an earlier report kept.")
    ] = False,
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    tracking_uri: opt.Tracking = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """Print tables with intervals and write them, with figures and provenance, to a folder.

    Example: longact report --experiment default --table sparsity,controls --format md,tex

    Example: longact report --claims

    Example: longact report --rows mask,sparsity --cols task,length --where model=micro
    """
    from sys import argv

    from longact_cli.console.claims import claim_lines
    from longact_cli.console.progress import stage_progress
    from longact_cli.execution.preflight import check_runs_dir
    from longact_cli.reporting.api import only_study
    from longact_cli.reporting.render.terminal import to_terminal
    from longact_cli.reporting.request import CLAIMS, ReportRequest
    from longact_cli.reporting.reuse import forget, report_again
    from longact_cli.tracking import artifact_folder
    from longact_cli.tracking import tracking_uri as chosen_uri
    from longact_cli.tracking.cache_file import cache_folder

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    pivot = _pivot(rows, cols, where)
    check_runs_dir(runs_dir, writes=out is None)
    uri = chosen_uri(tracking_uri, runs_dir)
    studies = _words(experiment) if experiment else (only_study(uri),)
    request = ReportRequest(
        tables=_tables(table, alone=pivot is not None, claims=claims),
        formats=_words(formats),
        pivot=pivot,
        siunitx=siunitx,
        command=opt.command_line([word for word in argv if word != "--refresh"]),
    )
    out = out or runs_dir / "reports" / artifact_folder(runs_dir, "+".join(studies)).name
    cache = cache_folder(runs_dir)
    if refresh:
        forget(cache)
    with stage_progress(output) as progress:
        done = report_again(uri, studies, request, out=out, cache=cache, progress=progress)
    for shown in done.tables:
        output.show(to_terminal(shown))
        if shown.name == CLAIMS:
            claim_lines(output, shown)
    for path in done.paths:
        output.note(f"written: {path}")
        output.data({"event": "file", "path": str(path)})
    return 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _pivot(rows: str | None, cols: str | None, where: list[str] | None) -> "Pivot | None":
    from longact_cli.errors import ConfigError

    if rows is None and cols is None:
        if where:
            raise ConfigError("--where filters a pivot; give --rows and --cols too")
        return None
    if rows is None or cols is None:
        lacking = "--rows" if rows is None else "--cols"
        raise ConfigError(f"{lacking} is not given; a pivot needs --rows and --cols")
    from longact_cli.reporting.pivot import parse_pivot  # imports pandas

    return parse_pivot(rows, cols, where or [])


def _tables(text: str | None, *, alone: bool, claims: bool) -> tuple[str, ...]:
    checklist = ("claims",) if claims else ()
    if text is None:
        return checklist or (() if alone else ("sparsity",))
    return (*_words(text), *checklist)
