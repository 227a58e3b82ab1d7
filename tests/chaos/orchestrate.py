"""Run a sweep of quick cells with real tracking: `orchestrate RUNS_DIR NUMBER_OF_SEEDS WORKERS`."""

import subprocess
import sys
from pathlib import Path

from longact_cli.cells import CellDir
from longact_cli.config.compose import parse
from longact_cli.config.sweep import expand
from longact_cli.controls import plan_sweep
from longact_cli.execution.local import LocalHandle
from longact_cli.execution.runner import Runner
from longact_cli.plan import Plan
from longact_cli.tracking import default_tracking_uri
from longact_cli.tracking.listener import PlanTracker

STUDY = "quick"


class QuickExecutor:
    """Starts `quick_cell.py` for every cell."""

    def __init__(self, workers: int) -> None:
        self.slots = workers

    def start(self, directory: CellDir) -> LocalHandle:
        """Start one cell."""
        script = Path(__file__).with_name("quick_cell.py")
        with directory.stderr.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(script), str(directory.path)],
                stdin=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert process.stdin is not None
        return LocalHandle(process, process.stdin)


def make_plan(seeds: int) -> Plan:
    """Return a plan of 1 + 6 x seeds cells: salient, random, dense, each trained and scored."""
    numbers = ",".join(map(str, range(seeds)))
    configs = expand(parse(["mask=salient", "mask.sparsity=0.3", f"seed={numbers}"]))
    return plan_sweep(STUDY, configs, revision=lambda _model: "w", controls=True)


def main() -> int:
    """Run the sweep; exit 0 where every cell is done."""
    runs, plan = Path(sys.argv[1]), make_plan(int(sys.argv[2]))
    runs.mkdir(parents=True, exist_ok=True)
    tracker = PlanTracker(default_tracking_uri(runs), runs, warn=sys.stderr.write)
    tracker.start(plan, "longact ablate --sparsity 0.3")
    outcome = Runner(plan, runs, QuickExecutor(int(sys.argv[3])), listeners=(tracker,)).run()
    return 0 if tracker.finish(ok=outcome.ok) and outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
