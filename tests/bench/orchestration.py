"""What a cell costs beyond itself: 200 cells that do nothing, and a look at a store of 1,000."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from longact_cli.cells import Status, cell_dir, create, write_status
from longact_cli.config.compose import compose
from longact_cli.execution.local import LocalHandle
from longact_cli.execution.runner import Runner
from longact_cli.plan import Plan, train_cell
from longact_cli.tracking import default_tracking_uri
from longact_cli.tracking.listener import PlanTracker

CELLS = 200
STORED = 1000
# Ends as a real cell does, in the time a shell needs to start.
NOTHING = "printf '%s' \"$1\" > status.json; printf '{\"files\": {}}' > DONE"


@dataclass
class NothingExecutor:
    """Starts a shell that marks its cell as done."""

    slots: int = 2

    def start(self, directory):
        status = json.dumps(vars(Status("done", 1, 0, started=time.time(), finished=time.time())))
        process = subprocess.Popen(
            ["/bin/sh", "-c", NOTHING, "sh", status],
            cwd=directory.path,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        return LocalHandle(process, process.stdin)


def make_plan(count, study="bench"):
    """Return a plan of `count` train cells that differ in their seed."""
    config = compose(())
    seeds = [config.model_copy(update={"seed": seed}) for seed in range(count)]
    return Plan(study, tuple(train_cell(one, lambda _model: "weights") for one in seeds))


def alone(plan, folder):
    """Return the seconds the same shells take when nothing looks after them."""
    started = time.perf_counter()
    for cell in plan.cells:
        directory = cell_dir(folder, cell.digest)
        directory.path.mkdir(parents=True)
        NothingExecutor().start(directory).process.wait()
    return time.perf_counter() - started


def orchestrated(plan, folder, *, tracked):
    """Return the seconds of a run of the plan, until the last record is in."""
    listeners = []
    if tracked:
        tracker = PlanTracker(default_tracking_uri(folder), folder, warn=print)
        tracker.start(plan, "bench")
        listeners = [tracker]
    started = time.perf_counter()
    assert Runner(plan, folder, NothingExecutor(), listeners=listeners).run().ok
    middle = time.perf_counter()
    if tracked:
        assert tracker.finish(ok=True)
    return middle - started, time.perf_counter() - middle


def look(plan, folder):
    """Return the seconds of `longact status` on a store with every cell of the plan."""
    for cell in plan.cells:
        directory = cell_dir(folder, cell.digest)
        create(directory, cell)
        write_status(directory, Status("done", 1, 0, started=1.0, finished=2.0))
    command = [sys.executable, "-m", "longact_cli", "status", "--runs-dir", str(folder)]
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return seconds


def run():
    """Print the milliseconds per cell and the seconds of `longact status`."""
    plan = make_plan(CELLS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = alone(plan, folder / "alone")
        for tracked in (False, True):
            spent, after = orchestrated(plan, folder / f"run{tracked}", tracked=tracked)
            what = "with MLflow" if tracked else "without MLflow"
            each = 1000 * (spent - base) / CELLS
            print(f"per cell, {what:14}  {each:.1f} ms; after the last cell {after:.1f} s")
        seconds = look(make_plan(STORED), folder / "stored")
        print(f"status of {STORED} cells    {min(seconds):.2f} to {max(seconds):.2f} s")


if __name__ == "__main__":
    run()
