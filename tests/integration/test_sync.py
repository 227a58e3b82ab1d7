"""MLflow may be away, locked or killed: nothing is lost and nothing is written twice."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from longact_cli.cells import cell_dir, read_status, write_status
from longact_cli.plan import Plan
from longact_cli.tracking import default_tracking_uri
from longact_cli.tracking.client import connect
from longact_cli.tracking.listener import PlanTracker
from longact_cli.tracking.query import read_samples, read_study
from longact_cli.tracking.replay import replay
from mlflow_server import Server
from synthetic_store import Setting, base_cell, pair, write_cell

pytestmark = pytest.mark.slow

CELLS = (
    base_cell(),
    *(cell for seed in range(4) for cell in pair(Setting("salient", 0.3, seed, 0.7))),
)
PLAN = Plan("study", CELLS)


@pytest.fixture
def runs_dir(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for cell in CELLS:
        write_cell(tmp_path / "runs", cell, 0.7)
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def server(tmp_path, empty_database):
    made = Server(tmp_path / "server", template=empty_database)
    yield made
    made.kill()


def stored(uri):
    """Return the digest, status and number of rewards of every run in the store, sorted."""
    client = connect(uri)
    experiment = client.get_experiment_by_name("study").experiment_id
    found = client.search_runs([experiment], "tags.`longact.kind` = 'cell'", max_results=1000)
    return sorted(
        (
            run.data.tags["longact.cell"],
            run.info.status,
            len(client.get_metric_history(run.info.run_id, "reward")),
        )
        for run in found
    )


def complete():
    return sorted((c.digest, "FINISHED", 12 if c.stage == "train" else 0) for c in CELLS)


def test_a_server_that_is_away_then_killed_in_the_middle_ends_up_with_every_run_once(
    runs_dir, server
):
    warnings = []
    tracker = PlanTracker(server.uri, runs_dir, warn=warnings.append)
    tracker.start(PLAN, "longact ablate")
    for cell in CELLS:
        tracker.changed(cell, read_status(cell_dir(runs_dir, cell.digest)))
    assert not tracker.finish(ok=True)
    assert "longact sync" in warnings[-1]

    server.start()
    tracker = PlanTracker(server.uri, runs_dir, warn=warnings.append, seconds=0.0)
    tracker.start(PLAN, "longact ablate")
    for number, cell in enumerate(CELLS):
        tracker.changed(cell, read_status(cell_dir(runs_dir, cell.digest)))
        if number == 3:
            time.sleep(1.0)
            server.kill()
    server.start()
    assert tracker.finish(ok=True)
    assert stored(server.uri) == complete()

    done = replay(runs_dir, server.uri)
    assert (done.written, done.closed, done.skipped) == (0, 0, ())
    assert stored(server.uri) == complete()
    evaluated = [cell for cell in read_study(server.uri, "study") if cell.stage == "eval"]
    assert len(read_samples(server.uri, "study", evaluated[0].run_id)) == 40


def test_an_empty_database_is_rebuilt_from_the_runs_folder_by_the_command(
    runs_dir, empty_database, tmp_path
):
    uri = default_tracking_uri(runs_dir)
    shutil.copy(empty_database, runs_dir / "mlflow.db")
    tracker = PlanTracker(uri, runs_dir, warn=pytest.fail)
    tracker.start(PLAN, "longact ablate --sparsity 0.3")
    for cell in CELLS:
        tracker.changed(cell, read_status(cell_dir(runs_dir, cell.digest)))
    assert tracker.finish(ok=True)
    before = read_study(uri, "study")
    shutil.copy(empty_database, tmp_path / "new.db")
    uri = f"sqlite:///{tmp_path}/new.db"
    command = [sys.executable, "-m", "longact_cli", "sync", "--runs-dir", str(runs_dir)]
    command += ["--tracking-uri", uri]
    said = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
    assert f"{len(CELLS)} cells of 1 studies" in said[0].stdout
    assert f"{len(CELLS)} written" in said[0].stdout
    assert "0 written" in said[1].stdout
    after = read_study(uri, "study")
    assert [(c.digest, c.params, c.results, c.asked_by) for c in after] == [
        (c.digest, c.params, c.results, c.asked_by) for c in before
    ]
    assert stored(uri) == complete()


def test_a_database_that_another_process_has_locked_is_waited_for(runs_dir, empty_database):
    uri = default_tracking_uri(runs_dir)
    shutil.copy(empty_database, runs_dir / "mlflow.db")
    script = (
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN EXCLUSIVE')\n"
        "print('locked', flush=True)\n"
        "time.sleep(float(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", script, str(runs_dir / "mlflow.db"), "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(sqlite3.OperationalError):
            sqlite3.connect(runs_dir / "mlflow.db", timeout=0).execute("DELETE FROM tags")
        warnings = []
        tracker = PlanTracker(uri, runs_dir, warn=warnings.append)
        started = time.monotonic()
        tracker.start(PLAN, "longact ablate")
        for cell in CELLS:
            tracker.changed(cell, read_status(cell_dir(runs_dir, cell.digest)))
        assert time.monotonic() - started < 2.0
        assert tracker.finish(ok=True)
    assert stored(uri) == complete()


def test_a_cell_and_a_plan_without_a_process_are_closed_as_killed(runs_dir, empty_database):
    uri = default_tracking_uri(runs_dir)
    shutil.copy(empty_database, runs_dir / "mlflow.db")
    victim = CELLS[1]
    directory = cell_dir(runs_dir, victim.digest)
    directory.done.unlink()
    write_status(directory, read_status(directory).__class__("running", 1, started=1.0))
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from longact_cli.cells import read_cell, read_status, cell_dir\n"
        "from longact_cli.plan import Plan\n"
        "from longact_cli.tracking.listener import PlanTracker\n"
        "from longact_cli.tracking.query import read_study\n"
        "uri, runs = sys.argv[1], Path(sys.argv[2])\n"
        "cells = tuple(read_cell(cell_dir(runs, digest)) for digest in sys.argv[3:])\n"
        "tracker = PlanTracker(uri, runs, warn=print)\n"
        "tracker.start(Plan('study', cells), 'longact ablate')\n"
        "for cell in cells:\n"
        "    tracker.changed(cell, read_status(cell_dir(runs, cell.digest)))\n"
        "def at_work():\n"
        "    known = {cell.digest: cell.status for cell in read_study(uri, 'study')}\n"
        "    return {d for d in known if known[d] in ('RUNNING', 'SCHEDULED')}, known\n"
        "victim = cells[1].digest\n"
        "while at_work()[0] != {victim} or at_work()[1][victim] != 'RUNNING':\n"
        "    time.sleep(0.2)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    digests = [cell.digest for cell in CELLS]
    command = [sys.executable, "-c", script, uri, str(runs_dir), *digests]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    running = {cell.digest: cell.status for cell in read_study(uri, "study")}
    assert running[victim.digest] == "RUNNING"
    done = replay(runs_dir, uri)
    assert done.closed == 2
    closed = {cell.digest: cell.status for cell in read_study(uri, "study")}
    assert closed[victim.digest] == "KILLED"
    plans = connect(uri).search_runs(["1"], "tags.`longact.kind` = 'plan'")
    assert [run.info.status for run in plans] == ["KILLED"]


def test_forty_quick_cells_of_four_writers_are_recorded_once_each(tmp_path, empty_database):
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    uri = default_tracking_uri(runs_dir)
    shutil.copy(empty_database, runs_dir / "mlflow.db")
    cells = tuple(cell for seed in range(20) for cell in pair(Setting("random", 0.5, seed, 0.5)))
    for cell in cells:
        write_cell(runs_dir, cell, 0.5)

    def track(plan):
        # Two writers of one run may collide in the database; the next try finds what is there.
        tracker = PlanTracker(uri, runs_dir, warn=lambda _: None)
        tracker.start(plan, "longact ablate")
        for cell in plan.cells:
            tracker.changed(cell, read_status(cell_dir(runs_dir, cell.digest)))
        assert tracker.finish(ok=True)

    plans = [Plan("study", cells[first::2] if first else cells) for first in (0, 0, 1, 1)]
    threads = [threading.Thread(target=track, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = stored(uri)
    assert [digest for digest, _, _ in found] == sorted(cell.digest for cell in cells)
    assert {(status, points) for _, status, points in found} == {("FINISHED", 12), ("FINISHED", 0)}
