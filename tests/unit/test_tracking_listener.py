from longact_cli.cells import read_status
from longact_cli.plan import Plan
from longact_cli.tracking.listener import PlanTracker
from longact_cli.tracking.query import read_study
from synthetic_store import Setting, base_cell, pair, write_cell


def test_a_plan_is_followed_from_start_to_end(tracked_runs):
    runs_dir, uri = tracked_runs
    train, evaluation = pair(Setting("salient", 0.3, 0, 0.7))
    warnings = []
    tracker = PlanTracker(uri, runs_dir, warn=warnings.append, seconds=0.0)
    tracker.start(Plan("study", (train, evaluation)), "longact ablate")
    for cell in (train, evaluation):
        directory = write_cell(runs_dir, cell, 0.7)
        tracker.tick([cell])
        tracker.changed(cell, read_status(directory))
    assert tracker.finish(ok=True)
    assert [cell.status for cell in read_study(uri, "study")] == ["FINISHED", "FINISHED"]
    assert warnings == []


def test_a_failure_of_mlflow_is_told_once_and_repaired_at_the_end(tracked_runs):
    runs_dir, uri = tracked_runs
    base = base_cell()
    warnings = []
    tracker = PlanTracker(uri, runs_dir, warn=warnings.append, seconds=0.0)
    tracker.start(Plan("study", (base,)), "longact ablate")
    directory = write_cell(runs_dir, base, 0.2)
    artifacts = runs_dir / "artifacts" / "study"
    away = artifacts.rename(runs_dir / "away")
    artifacts.write_text("a file where the folder of artifacts should be")
    tracker.changed(base, read_status(directory))
    tracker.tick([])
    assert len(warnings) == 1
    assert "results on disk are kept" in warnings[0]
    artifacts.unlink()
    away.rename(artifacts)
    assert [cell.status for cell in read_study(uri, "study")] != ["FINISHED"]
    assert tracker.finish(ok=True)
    (cell,) = read_study(uri, "study")
    assert (cell.status, len(cell.results)) == ("FINISHED", 4)
