"""`longact analyze`: how concentrated query/key activations are, and which rows they single out."""

from pathlib import Path
from typing import Annotated

import typer

from longact_cli.cli import options as opt


@opt.guarded
def analyze(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="model.*, data.tasks or data.chat_template, e.g. data.tasks=[vt].",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="micro, qwen3-4b, a folder or a hub id; a comma list compares checkpoints.",
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option("--length", help="Long context in tokens; default: the window, up to 8192."),
    ] = None,
    short_length: Annotated[
        int | None,
        typer.Option("--short-length", help="Short context; default: an eighth, at least 256."),
    ] = None,
    site: Annotated[
        str, typer.Option("--site", help="norm, proj, rope_pair; the first is used for sets.")
    ] = "norm",
    statistic: Annotated[
        str, typer.Option("--statistic", help="mean_abs, rms, max_abs, p99; the first for sets.")
    ] = "mean_abs",
    sparsity: Annotated[
        float, typer.Option("--sparsity", help="Fraction of the rows of a matrix in a set.")
    ] = 0.3,
    mask: Annotated[
        str, typer.Option("--mask", help="Strategies to compare with salient, a comma list.")
    ] = "lowest,random,random-head-matched,weight,wanda",
    prompts: Annotated[int, typer.Option("--prompts", help="Prompts per length and seed.")] = 8,
    seeds: Annotated[
        str, typer.Option("--seeds", help="How many prompt draws (2) or which (0,7).")
    ] = "2",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="JSON lines with a `prompt` each, instead of generated ones."),
    ] = None,
    short_data: Annotated[
        Path | None,
        typer.Option("--short-data", help="Other short prompts than those of --data, cut."),
    ] = None,
    before: Annotated[
        Path | None, typer.Option("--before", help="Checkpoint before a training run.")
    ] = None,
    after: Annotated[Path | None, typer.Option("--after", help="Checkpoint after it.")] = None,
    cell: Annotated[
        str | None,
        typer.Option("--cell", help="A training run of the store: its steps and changed rows."),
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="Compare with what its dense runs changed.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="csv, html, json, md, tex; figures: pdf, png, svg.")
    ] = "csv,html,md,tex,pdf,svg,png",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; default: RUNS_DIR/analysis/DIGEST.")
    ] = None,
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    tracking_uri: opt.Tracking = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """Profile query and key activations on long and short contexts, and compare salient rows.

    Writes tidy CSV files, tables, figures and one HTML page to a folder, and logs them to MLflow.
    The same command again gives the same files. Nothing is trained.

    Example: longact analyze --model micro --length 1024 --short-length 256 --prompts 8
    """
    from longact_cli.cli.analysis import AnalysisRequest, run_analysis
    from longact_cli.cli.analysis_settings import Asked, settings_from

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    asked = Asked(
        model=model,
        lengths=(length, short_length),
        sites=site,
        statistics=statistic,
        strategies=mask,
        sparsity=sparsity,
        prompts=prompts,
        seeds=seeds,
        data=(data, short_data),
        pair=(before, after),
        cell=cell,
        study=study,
        overrides=tuple(overrides or ()),
    )
    request = AnalysisRequest(
        output=output,
        runs_dir=runs_dir,
        formats=tuple(filter(None, (word.strip() for word in formats.split(",")))),
        out=out,
        tracking_uri=tracking_uri,
        dry_run=dry_run,
    )
    return run_analysis(settings_from(asked, runs_dir), request)
