"""`longact report`: tables and figures from the tracked runs of a study."""

from pathlib import Path
from typing import Annotated

import typer

from longact_cli.cli import options as opt


@opt.guarded
def report(
    experiment: Annotated[
        str | None, typer.Option("--experiment", help="Study to report; default: the only one.")
    ] = None,
    table: Annotated[str, typer.Option("--table", help="Tables, a comma list.")] = "sparsity",
    formats: Annotated[
        str,
        typer.Option("--format", help="md, tex, csv, json, html; figures: pdf, svg, png."),
    ] = "md,tex,csv,json,html,pdf,svg",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; default: RUNS_DIR/reports/STUDY.")
    ] = None,
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    tracking_uri: opt.Tracking = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """Print tables with intervals and write them, with figures and provenance, to a folder.

    Example: longact report --experiment default --table sparsity --format md,tex
    """
    from sys import argv

    from longact_cli.cli.running import command_line
    from longact_cli.execution.preflight import check_runs_dir
    from longact_cli.reporting.render.terminal import to_terminal
    from longact_cli.reporting.report import write_report
    from longact_cli.tracking import artifact_folder
    from longact_cli.tracking import tracking_uri as chosen_uri

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    check_runs_dir(runs_dir)
    uri = chosen_uri(tracking_uri, runs_dir)
    study = experiment or _only_study(uri)
    done = write_report(
        uri,
        study,
        tables=_words(table),
        formats=_words(formats),
        out=out or runs_dir / "reports" / artifact_folder(runs_dir, study).name,
        command=command_line(argv),
    )
    for shown in done.tables:
        output.show(to_terminal(shown))
    for path in done.paths:
        output.note(f"written: {path}")
        output.data({"event": "file", "path": str(path)})
    return 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _only_study(uri: str) -> str:
    from longact_cli.errors import ConfigError, NotFoundError
    from longact_cli.tracking.query import list_studies

    studies = list_studies(uri)
    if not studies:
        raise NotFoundError(f"{uri} holds no study yet; run `longact ablate` first")
    if len(studies) > 1:
        raise ConfigError(f"--experiment is not given; it must be one of: {', '.join(studies)}")
    return studies[0]
