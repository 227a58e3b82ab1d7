"""`longact status`: the cells of a store and where they stand."""

from longact_cli.cli import options as opt


@opt.guarded
def status(
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """List every cell with its state. A cell whose process died shows as interrupted."""
    from longact_cli.console.results import show_cells
    from longact_cli.errors import NotFoundError
    from longact_cli.execution.overview import overview
    from longact_cli.execution.preflight import check_runs_dir

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    check_runs_dir(runs_dir)
    rows = overview(runs_dir)
    if not rows:
        raise NotFoundError(f"--runs-dir is {runs_dir}; it holds no cells: run `longact ablate`")
    show_cells(output, rows)
    return 0
