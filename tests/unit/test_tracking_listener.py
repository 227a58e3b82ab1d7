import shutil
import threading
import time

from longact_cli.cells import read_status
from longact_cli.plan import Plan
from longact_cli.tracking.listener import PlanTracker
from longact_cli.tracking.plans import is_plan_held
from longact_cli.tracking.query import read_study
from synthetic_store import Setting, base_cell, pair, write_cell


def test_a_plan_is_followed_from_start_to_end(tracked_runs):
    runs_dir, uri = tracked_runs
    train, evaluation = pair(Setting("salient", 0.3, 0, 0.7))
    warnings = []
    tracker = PlanTracker(uri, runs_dir, warn=warnings.append, seconds=0.0)
    plan = Plan("study", (train, evaluation))
    tracker.start(plan, "longact ablate")
    assert is_plan_held(runs_dir, plan.digest)
    for cell in (train, evaluation):
        directory = write_cell(runs_dir, cell, 0.7)
        tracker.tick([cell])
        tracker.changed(cell, read_status(directory))
    assert tracker.finish(ok=True)
    assert not is_plan_held(runs_dir, plan.digest)
    assert [cell.status for cell in read_study(uri, "study")] == ["FINISHED", "FINISHED"]
    assert warnings == []


def test_a_failure_of_mlflow_is_told_once_and_repaired_at_the_end(tracked_runs):
    runs_dir, uri = tracked_runs
    base = base_cell()
    told = threading.Event()
    warnings = []

    def warn(line):
        warnings.append(line)
        told.set()

    tracker = PlanTracker(uri, runs_dir, warn=warn, seconds=0.0)
    artifacts = runs_dir / "artifacts"
    artifacts.write_text("a file where the folder of artifacts should be")
    tracker.start(Plan("study", (base,)), "longact ablate")
    directory = write_cell(runs_dir, base, 0.2)
    tracker.changed(base, read_status(directory))
    assert told.wait(60)
    tracker.tick([])
    assert len(warnings) == 1
    assert "results on disk are kept" in warnings[0]
    artifacts.unlink()
    assert tracker.finish(ok=True)
    (cell,) = read_study(uri, "study")
    assert (cell.status, len(cell.results)) == ("FINISHED", 4)
    assert len(warnings) == 1


def test_an_mlflow_that_stays_away_costs_the_runner_nothing_and_is_named_at_the_end(tracked_runs):
    runs_dir, uri = tracked_runs
    (runs_dir / "mlflow.db").write_text("this is no database, " * 50)
    base = base_cell()
    warnings = []
    tracker = PlanTracker(uri, runs_dir, warn=warnings.append)
    started = time.monotonic()
    tracker.start(Plan("study", (base,)), "longact ablate")
    tracker.changed(base, read_status(write_cell(runs_dir, base, 0.2)))
    tracker.tick([base])
    assert time.monotonic() - started < 1.0
    assert not tracker.finish(ok=True)
    assert "`longact sync --runs-dir" in warnings[-1]
    shutil.rmtree(runs_dir)
