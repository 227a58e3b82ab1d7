"""`longact diff A B`: why two cells are not the same cell."""

from typing import Annotated

import typer

from longact_cli.cli import options as opt

_HELP = "A study, a cell (digest or name), a cell's folder, or a study, plan or configuration file."
_WHAT = {
    "setting": "",
    "run": "  (does not change the result)",
    "provenance": "  (provenance)",
}


@opt.guarded
def diff(
    left: Annotated[str, typer.Argument(metavar="A", help=_HELP)],
    right: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """Print the settings that make two cells, configurations or plans different, one per line.

    Example: longact diff 3f2a91 experiments/paper/sparsity.yaml
    """
    from longact_cli.execution.compare import compare, load_side

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    a, b = load_side(left, runs_dir), load_side(right, runs_dir)
    found = compare(a, b)
    for difference in found:
        output.data({"event": "difference", **difference._asdict()})
        if not output.json:
            typer.echo(difference.text + _WHAT[difference.kind])
    output.data(
        {
            "event": "diff",
            "only_left": sorted(a.digests - b.digests),
            "only_right": sorted(b.digests - a.digests),
            "shared": sorted(a.digests & b.digests),
            "differences": len(found),
        }
    )
    output.note(_summary(a.digests, b.digests, {difference.kind for difference in found}))
    return 0


def _summary(left: frozenset[str], right: frozenset[str], kinds: set[str]) -> str:
    if len(left) > 1 or len(right) > 1:
        return (
            f"{len(left & right)} cells in both, {len(left - right)} only in A, "
            f"{len(right - left)} only in B"
        )
    if left and left == right:
        return (
            "the same cell; only its provenance differs"
            if "provenance" in kinds
            else "the same cell"
        )
    if "setting" in kinds:
        return "different cells: the settings above make them so"
    return "no setting differs" + ("; only provenance does" if "provenance" in kinds else "")
