"""A plan before and after it ran."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from longact_cli.cells import State
from longact_cli.console.output import Output, duration
from longact_cli.execution.estimate import Estimate
from longact_cli.execution.runner import Outcome
from longact_cli.plan import Cell, Plan, plan_labels

_BAD_ENDS: tuple[State, ...] = ("failed", "blocked", "interrupted")


def show_plan(output: Output, plan: Plan, cost: Estimate, memory: Sequence[str] = ()) -> None:
    """Print every cell of a plan and what is left to pay."""
    table = Table(title=f"study {plan.study}: {len(plan.cells)} cells", title_justify="left")
    for name in ("digest", "stage", "model", "algorithm", "mask", "sparsity", "seed", "why"):
        table.add_column(name, justify="right" if name in ("sparsity", "seed") else "left")
    labels = plan_labels(plan)
    own = {cell.digest: labels[cell.digest].removeprefix(cell.label).strip() for cell in plan.cells}
    if any(own.values()):
        table.add_column("settings")
    for cell in plan.cells:
        settings = [own[cell.digest]] if any(own.values()) else []
        table.add_row(*map(Text, [*_plan_row(cell), *settings]))
        output.data({"event": "cell", **_plan_object(cell), "label": labels[cell.digest]})
    output.show(table)
    output.show("\n".join([*memory, cost_line(cost)]))
    output.data({"event": "estimate", "memory": list(memory), **vars(cost)})


def _plan_row(cell: Cell) -> tuple[str, ...]:
    trained = cell.sparsity is not None
    stage = cell.stage if cell.stage == "train" else f"eval {cell.config.benchmark.name}"
    return (
        cell.digest[:12],
        stage,
        cell.config.model.name,
        cell.config.algorithm.name if trained else "",
        cell.arm,
        f"{cell.sparsity:g}" if cell.sparsity is not None else "",
        str(cell.config.seed) if trained else "",
        ", ".join(cell.asked_by),
    )


def _plan_object(cell: Cell) -> dict[str, Any]:
    return {
        "digest": cell.digest,
        "stage": cell.stage,
        "arm": cell.arm,
        "sparsity": cell.sparsity,
        "seed": cell.config.seed,
        "parent": cell.parent,
        "asked_by": list(cell.asked_by),
    }


def cost_line(cost: Estimate) -> str:
    """Say what is left of a plan."""
    if not cost.cells:
        return f"all {cost.finished} cells are finished; nothing to run"
    time_text = (
        f"about {duration(cost.seconds)} (from finished cells of this kind)"
        if cost.seconds is not None
        else "no cell of each kind has been timed here yet"
    )
    return (
        f"{cost.cells} cells to run, {cost.finished} finished; "
        f"at most {_tokens(cost.tokens)}; {time_text}"
    )


def _tokens(count: int) -> str:
    """Return `1.2 M tokens`, or thousands of them below a million."""
    return f"{count / 1e6:.1f} M tokens" if count >= 1e6 else f"{count / 1e3:.0f} k tokens"


class Failure(NamedTuple):
    """Why a cell failed: one line, and the end of what it printed."""

    error: str
    printed: str


def show_outcome(
    output: Output,
    plan: Plan,
    outcome: Outcome,
    failures: Mapping[str, Failure],
    *,
    retries: bool,
) -> None:
    """Print how a plan ended: counts, each failure in one line, what to do next."""
    output.data({"event": "end", "interrupted": outcome.interrupted, "states": outcome.states})
    labels = plan_labels(plan)
    for digest, state in outcome.states.items():
        if state == "failed" and digest in failures:
            output.complaint(f"failed: {labels[digest]}: {failures[digest].error}")
            output.detail(failures[digest].printed)
    done = outcome.count("done")
    line = f"{done} of {len(plan.cells)} cells done"
    line += "".join(f", {outcome.count(s)} {s}" for s in _BAD_ENDS if outcome.count(s))
    if outcome.interrupted and not outcome.left:
        line += "; run the same command again to continue"
    elif outcome.count("failed"):
        line += "; fix the cause and run the same command again"
        line += "" if retries else " with --retry-failed"
    output.note(line)
