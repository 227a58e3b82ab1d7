"""`longact cancel`: stop cells, wherever they run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longact_cli.cli import options as opt

if TYPE_CHECKING:
    from longact_cli.cells import CellDir


@opt.guarded
def cancel(
    cell: Annotated[
        str | None, typer.Argument(help="Start of its digest, or words of its name.")
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="Every cell of a study that has not ended.")
    ] = None,
    kill: Annotated[bool, typer.Option("--kill", help="At once, without a checkpoint.")] = False,
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """Stop a cell or a whole study: here, on Slurm or on Ray. The same sweep continues it later.

    Example: longact cancel --study demo
    """
    from longact_cli.errors import NotFoundError
    from longact_cli.execution.cancel import cancel as call_off
    from longact_cli.execution.preflight import check_runs_dir
    from longact_cli.holding import is_held

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    check_runs_dir(runs_dir)
    chosen = _chosen(runs_dir, cell, study)
    if not kill and any(map(is_held, chosen)):
        output.note("a training saves a checkpoint before it stops; --kill does not wait for it")
    found = call_off(chosen, grace=0.0 if kill else float("inf"))
    if not found:
        raise NotFoundError("nothing to cancel: every one of these cells has ended")
    for item in found:
        output.data({"event": "cancelled", **item._asdict()})
        output.show(f"{item.digest[:12]}  {item.label}: {item.outcome}")
    if any(item.outcome == "stopping" for item in found):
        output.note("cells on other machines stop within seconds; see `longact status`")
    return 0


def _chosen(runs_dir: Path, cell: str | None, study: str | None) -> "tuple[CellDir, ...]":
    from longact_cli.errors import ConfigError
    from longact_cli.execution.cancel import study_cells
    from longact_cli.execution.overview import find_row

    if (cell is None) == (study is None):
        raise ConfigError("name what to cancel: either CELL or --study NAME")
    if study is not None:
        return study_cells(runs_dir, study)
    return (find_row(runs_dir, str(cell)).directory,)
