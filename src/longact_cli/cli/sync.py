"""`longact sync`: bring MLflow up to what the runs folder holds."""

from longact_cli.cli import options as opt

EXIT_INCOMPLETE = 1


@opt.guarded
def sync(
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    tracking_uri: opt.Tracking = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """Copy every cell from disk into MLflow: after an outage, a move, or into an empty server.

    Repeating it changes nothing. Runs that MLflow takes for running and that nothing runs are
    closed as KILLED. Exit code 1 says that a cell on disk could not be read.

    Example: longact sync --tracking-uri http://localhost:5000
    """
    from longact_cli.cells import list_cells
    from longact_cli.console.progress import step_progress
    from longact_cli.errors import NotFoundError
    from longact_cli.execution.preflight import check_runs_dir
    from longact_cli.redaction import redact
    from longact_cli.tracking import tracking_uri as chosen_uri

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    check_runs_dir(runs_dir)
    uri = chosen_uri(tracking_uri, runs_dir)
    if not list_cells(runs_dir):
        raise NotFoundError(f"--runs-dir is {runs_dir}; it holds no cells: run `longact ablate`")
    # Imports MLflow, which takes seconds.
    from longact_cli.tracking.replay import replay

    with step_progress(output, "sync") as report:
        done = replay(runs_dir, uri, progress=report)
    for line in done.skipped:
        output.note(f"skipped: {line}")
    output.data({"event": "sync", "tracking_uri": redact(uri), **vars(done)})
    output.show(
        f"{done.cells} cells of {done.studies} studies are in {redact(uri)}: {done.written} "
        f"written, {done.cells - done.written} were there; {done.closed} stale runs closed"
    )
    return EXIT_INCOMPLETE if done.skipped else 0
