"""`longact status`: the cells of a store and where they stand."""

from typing import Annotated

import typer

from longact_cli.cli import options as opt


@opt.guarded
def status(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow until nothing is at work.")
    ] = False,
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """List every cell with its state. A cell whose process died shows as interrupted.

    With --watch: a live table on a terminal, a line for each change elsewhere.
    """
    from longact_cli.console.cells import show_cells, watch_cells
    from longact_cli.errors import NotFoundError
    from longact_cli.execution.overview import at_work, overview
    from longact_cli.execution.preflight import check_runs_dir

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    check_runs_dir(runs_dir, writes=False)
    rows = overview(runs_dir)
    if not rows:
        raise NotFoundError(f"--runs-dir is {runs_dir}; it holds no cells: run `longact ablate`")
    if watch:
        watch_cells(output, lambda: (found := overview(runs_dir), at_work(runs_dir, found)))
    else:
        show_cells(output, rows)
    return 0
