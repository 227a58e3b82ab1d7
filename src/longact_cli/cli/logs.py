"""`longact logs CELL`: what a cell's process printed."""

from typing import TYPE_CHECKING, Annotated

import typer

from longact_cli.cli import options as opt

if TYPE_CHECKING:
    from longact_cli.console.output import Output
    from longact_cli.execution.overview import Row


@opt.guarded
def logs(
    cell: Annotated[str, typer.Argument(help="Start of its digest, or words of its name.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the cell ends.")
    ] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Errors and warnings instead.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Last lines only.")] = 200,
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """Print the log of one cell. Secrets in it are blanked out.

    Example: longact logs "train salient 0.3 seed 0" --follow
    """
    from longact_cli.execution.logs import new_lines, read_tail
    from longact_cli.execution.overview import find_row
    from longact_cli.execution.preflight import check_runs_dir

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    check_runs_dir(runs_dir, writes=False)
    row = find_row(runs_dir, cell)
    output.note(f"{row.digest[:12]} {row.label}: {row.status.state}")
    path = row.directory.stderr if stderr else row.directory.stdout
    tail = read_tail(path, lines, whole=follow)
    for line in tail.lines:
        _print(output, row, line)
    if follow:
        for line in new_lines(row.directory, path, tail.offset):
            _print(output, row, line)
    elif not tail.lines and not stderr:
        output.note("nothing was printed; --stderr shows errors and warnings")
    return 0


def _print(output: "Output", row: "Row", line: str) -> None:
    output.data({"digest": row.digest, "line": line})
    if not output.json:
        typer.echo(line)
