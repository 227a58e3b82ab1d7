"""Several writers of one store, and writers that are killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from longact_cli.tracking.query import list_studies, read_study
from longact_cli.tracking.store import open_store
from store_helpers import planned_store, runs_of
from synthetic_store import Setting, pair, write_cell

SALIENT = Setting("salient", 0.3, 0, 0.7)
KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from longact_cli.cells import cell_dir, read_cell
from longact_cli.plan import Plan
from longact_cli.tracking.store import TrackingStore, open_store

runs_dir, uri, digest, victim = Path(sys.argv[1]), *sys.argv[2:5]
directory = cell_dir(runs_dir, digest)
cell = read_cell(directory)

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

store = open_store(uri, runs_dir=runs_dir, study="study")
run = store.start_plan(Plan("study", (cell,)), "longact ablate")
setattr(store._client, victim, die)
store.sync_cell(cell, directory, parent_run=run)
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["log_batch", "log_artifact", "set_terminated", "create_run"])
def test_a_writer_killed_at_any_point_leaves_what_the_next_one_completes(tracked_runs, victim):
    runs_dir, uri = tracked_runs
    _, evaluation = pair(SALIENT)
    directory = write_cell(runs_dir, evaluation, 0.7)
    command = [sys.executable, "-c", KILLED_WRITER, str(runs_dir), uri, evaluation.digest, victim]
    done = subprocess.run(command, check=False, env={**os.environ}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    store, run = planned_store(tracked_runs, evaluation)
    store.sync_cell(evaluation, directory, parent_run=run)
    client, runs = runs_of(uri)
    assert [r.info.status for r in runs] == ["FINISHED"]
    name = "ruler/niah_single_1/512"
    assert len(client.get_metric_history(runs[0].info.run_id, name)) == 1
    (cell,) = read_study(uri, "study")
    assert len(cell.results) == 4


@pytest.mark.slow
def test_two_processes_may_open_a_new_store_at_once(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from longact_cli.tracking.store import open_store; "
        "open_store(sys.argv[1], runs_dir=Path(sys.argv[2]), study='study')"
    )
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    command = [sys.executable, "-c", code, uri, str(tmp_path)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0)] * 3
    assert list_studies(uri) == ("study",)


TWO_WRITERS = """
import sys, time
from pathlib import Path
from longact_cli.cells import list_cells, read_cell
from longact_cli.plan import Plan
from longact_cli.tracking.store import open_store

runs_dir, uri, me, other = Path(sys.argv[1]), *sys.argv[2:5]
found = [(read_cell(directory), directory) for directory in list_cells(runs_dir)]
plan = Plan("study", tuple(cell for cell, _ in found))
store = open_store(uri, runs_dir=runs_dir, study="study")
log_batch = store._client.log_batch

def together(run_id, **values):
    if values.get("params"):
        (runs_dir / f"{me} {run_id}").touch()
        until = time.monotonic() + 20
        while not (runs_dir / f"{other} {run_id}").exists() and time.monotonic() < until:
            pass
    log_batch(run_id, **values)

store._client.log_batch = together
run = store.start_plan(plan, "longact ablate")
for cell, directory in found:
    store.sync_cell(cell, directory, parent_run=run)
"""


@pytest.mark.slow
def test_two_processes_may_record_the_same_runs_at_once(tracked_runs):
    runs_dir, uri = tracked_runs
    seeds = range(3)
    for seed in seeds:
        _, evaluation = pair(Setting("salient", 0.3, seed, 0.7))
        write_cell(runs_dir, evaluation, 0.7)
    command = [sys.executable, "-c", TWO_WRITERS, str(runs_dir), uri]
    started = [
        subprocess.Popen([*command, me, other], stderr=subprocess.PIPE)
        for me, other in (("one", "two"), ("two", "one"))
    ]
    assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0)] * 2
    client, runs = runs_of(uri)
    assert [run.info.status for run in runs] == ["FINISHED"] * len(seeds)
    for run in runs:
        assert len(run.data.params) > 20
        for name in run.data.metrics:
            assert len(client.get_metric_history(run.info.run_id, name)) == 1
    assert len(read_study(uri, "study")) == len(seeds)


def test_a_database_whose_creation_was_cut_off_is_created_anew(tmp_path, empty_database):
    (tmp_path / ".mlflow.db.new").write_bytes(empty_database.read_bytes()[:40_000])
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    open_store(uri, runs_dir=tmp_path, study="study")
    assert list_studies(uri) == ("study",)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mlflow.lock", "mlflow.db"]
