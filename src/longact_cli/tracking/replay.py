"""Everything a store holds on disk, brought into MLflow: after an outage, or into an empty one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from longact_cli.cells import (
    CellDir,
    Status,
    cell_dir,
    list_cells,
    read_cell,
    read_status,
)
from longact_cli.errors import DamagedFileError, LongActError, NotFoundError
from longact_cli.holding import is_held
from longact_cli.plan import Cell, Plan
from longact_cli.tracking import PlanStatus, database_file
from longact_cli.tracking.plans import StoredPlan, is_plan_held, read_plans
from longact_cli.tracking.store import TrackingStore, open_store

RECOVERED = "recovered"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Replayed:
    """What a sync came to.

    Attributes:
        studies: Studies of the store.
        cells: Cells that have started, each counted once for each study.
        written: Of them, those that MLflow lacked or had otherwise.
        closed: Runs that MLflow took for running although nothing runs them.
        skipped: Why a cell could not be read, one line each.
    """

    studies: int
    cells: int
    written: int
    closed: int
    skipped: tuple[str, ...]


class _Task(NamedTuple):
    """One cell, where it stands, and the plan below which it is shown."""

    cell: Cell
    status: Status
    plan: str


class _Study(NamedTuple):
    """What is to be brought into one study."""

    runs_dir: Path
    uri: str
    plans: Sequence[StoredPlan]
    tasks: tuple[_Task, ...]


def replay(runs_dir: Path, uri: str, *, progress: Progress | None = None) -> Replayed:
    """Bring MLflow up to what the store says; repeating it changes nothing.

    Cells that no plan names go to the study `recovered`.

    Args:
        runs_dir: The store.
        uri: Where MLflow keeps its runs; an empty one is filled.
        progress: Called as `(done, total)` after every cell.

    Raises:
        NotFoundError: The store holds no cell.
        TrackingError: MLflow failed; what was sent before stays.
    """
    cells, skipped = _readable(runs_dir)
    if not cells and not skipped:
        raise NotFoundError(f"--runs-dir is {runs_dir}; it holds no cells: run `longact ablate`")
    plans = _with_orphans(read_plans(runs_dir), cells, runs_dir)
    studies: dict[str, list[StoredPlan]] = {}
    for plan in plans:
        studies.setdefault(plan.study, []).append(plan)
    work = [
        _Study(runs_dir, uri, found, tuple(_tasks(found, cells, runs_dir)))
        for found in studies.values()
    ]
    total = sum(len(study.tasks) for study in work)
    written = closed = done = 0
    for study in work:
        store = open_store(uri, runs_dir=runs_dir, study=study.plans[0].study)
        before = {run.run_id for run in store.unfinished()}
        runs = {plan.digest: _keep(store, plan, cells) for plan in study.plans}
        for task in study.tasks:
            directory = cell_dir(runs_dir, task.cell.digest)
            parent = runs[task.plan]
            try:
                written += store.sync_cell(
                    task.cell, directory, parent_run=parent, status=task.status
                )
            except DamagedFileError as error:
                skipped.append(str(error))
            done += 1
            if progress is not None:
                progress(done, total)
        _close(store, study, runs)
        closed += len(before - {run.run_id for run in store.unfinished()})
    started = sum(task.status.state != "pending" for study in work for task in study.tasks)
    return Replayed(len(work), started, written, closed, tuple(skipped))


def _readable(runs_dir: Path) -> tuple[dict[str, Cell], list[str]]:
    cells, skipped = {}, []
    for directory in list_cells(runs_dir):
        try:
            cell = read_cell(directory)
        except (LongActError, KeyError, TypeError, ValueError) as error:
            skipped.append(f"{directory.path}: {' '.join(str(error).split())[:200]}")
            continue
        cells[cell.digest] = cell
    return cells, skipped


def _with_orphans(
    plans: tuple[StoredPlan, ...], cells: dict[str, Cell], runs_dir: Path
) -> tuple[StoredPlan, ...]:
    named = {digest for plan in plans for digest in plan.cells}
    orphans = {digest: cell.asked_by for digest, cell in cells.items() if digest not in named}
    if not orphans:
        return plans
    digest = Plan(RECOVERED, tuple(cells[digest] for digest in sorted(orphans))).digest
    return (*plans, StoredPlan(RECOVERED, digest, "", 0.0, orphans, runs_dir))


def _keep(store: TrackingStore, plan: StoredPlan, cells: Mapping[str, Cell]) -> str:
    """Return the plan's run, made where MLflow has none."""
    found = [replace(cells[d], asked_by=why) for d, why in plan.cells.items() if d in cells]
    return store.keep_plan(Plan(plan.study, tuple(found)), plan.command, digest=plan.digest)


def _tasks(
    plans: Sequence[StoredPlan], cells: Mapping[str, Cell], runs_dir: Path
) -> Iterator[_Task]:
    """Yield every cell of one study once, below its newest plan, with all reasons for it."""
    reasons: dict[str, list[str]] = {}
    newest: dict[str, str] = {}
    for plan in plans:
        for digest, why in plan.cells.items():
            reasons.setdefault(digest, []).extend(why)
            newest[digest] = plan.digest
    active = {plan.digest for plan in plans if is_plan_held(runs_dir, plan.digest)}
    for digest, plan_digest in newest.items():
        if digest in cells:
            cell = replace(cells[digest], asked_by=tuple(dict.fromkeys(reasons[digest])))
            status = _settled(cell_dir(runs_dir, digest), active=plan_digest in active)
            yield _Task(cell, status, plan_digest)


def _settled(directory: CellDir, *, active: bool) -> Status:
    """Return the cell's status; one that says `running` and has no process was interrupted."""
    status = read_status(directory)
    if status.state == "running" and not active and not is_held(directory):
        return replace(status, state="interrupted")
    return status


def _close(store: TrackingStore, study: _Study, runs: Mapping[str, str]) -> None:
    """Close the runs of plans that have ended, and runs without a cell in their own database."""
    states = {task.cell.digest: task.status for task in study.tasks}
    for plan in study.plans:
        word = _plan_status(plan, states, study.runs_dir)
        if word is not None:
            store.close(runs[plan.digest], word)
    if database_file(study.uri) == study.runs_dir.resolve() / "mlflow.db":
        for run in store.unfinished():
            if run.kind == "cell" and run.digest not in states:
                store.close(run.run_id, "KILLED")


def _plan_status(
    plan: StoredPlan, states: Mapping[str, Status], runs_dir: Path
) -> PlanStatus | None:
    """Return how a plan ended; None while a process is at work on it."""
    found = [states[digest].state for digest in plan.cells if digest in states]
    if "running" in found or is_plan_held(runs_dir, plan.digest):
        return None
    if len(found) == len(plan.cells) and set(found) == {"done"}:
        return "FINISHED"
    return "FAILED" if "failed" in found else "KILLED"
