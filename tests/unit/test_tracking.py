import subprocess
import sys

import pytest

from longact_cli.cells import Status, cell_dir, create, mark_done, write_status
from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.files import append_lines, read_json, write_json
from longact_cli.plan import Plan
from longact_cli.tracking import (
    TrackingError,
    artifact_folder,
    default_tracking_uri,
    tracking_uri,
)
from longact_cli.tracking.query import list_studies, read_curve, read_samples, read_study
from longact_cli.tracking.store import open_store
from longact_cli.tracking.sync import metric_name, run_status
from store_helpers import planned_store, runs_of
from synthetic_store import COMMIT, Setting, base_cell, pair, rewards, write_cell

SALIENT = Setting("salient", 0.3, 0, 0.7)


def test_the_store_of_a_runs_folder_is_its_own_database_unless_the_environment_names_another(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert default_tracking_uri(tmp_path) == "http://server:5000"


def test_the_option_goes_before_the_variable_and_the_variable_before_the_key(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(None, tmp_path, configured=None) == default_tracking_uri(tmp_path)
    assert tracking_uri(None, tmp_path, configured="http://key:1") == "http://key:1"
    with pytest.raises(ConfigError, match=r"^tracking\.uri is 'runs/db'; it must be"):
        tracking_uri(None, tmp_path, configured="runs/db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://variable:1")
    assert tracking_uri(None, tmp_path, configured="http://key:1") == "http://variable:1"
    assert tracking_uri("http://option:1", tmp_path, configured="x") == "http://option:1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "runs/db")
    with pytest.raises(ConfigError, match=r"^MLFLOW_TRACKING_URI is 'runs/db'"):
        tracking_uri(None, tmp_path)


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("http://", ConfigError, "names no host"),
        ("http://[::1", ConfigError, "names no host"),
        ("https://server:99999", ConfigError, "no port from 1 to 65535"),
        ("sqlite:///", ConfigError, "would be lost"),
        ("sqlite:///:memory:", ConfigError, "would be lost"),
        ("sqlite://runs/mlflow.db", ConfigError, "sqlite:////FILE for an absolute path"),
        ("mysql+nosuch://u:secretpw@host/runs", ConfigError, "is no database"),
        ("mssql+pyodbc://u:secretpw@host/runs", PrerequisiteError, "pip install pyodbc"),
    ],
)
def test_an_address_that_can_hold_no_runs_is_one_line(uri, error, message, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyodbc", None)
    with pytest.raises(error, match=message) as caught:
        tracking_uri(uri, tmp_path)
    assert "\n" not in str(caught.value)
    assert "secretpw" not in str(caught.value)


def test_settings_of_the_package_do_not_import_mlflow():
    code = "import sys, longact_cli.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_finished_cell_comes_back_from_mlflow_with_scores_samples_and_curve(tracked_runs):
    runs_dir, uri = tracked_runs
    train, evaluation = pair(SALIENT)
    store, run = planned_store(tracked_runs, train, evaluation)
    for cell in (train, evaluation):
        store.sync_cell(cell, write_cell(runs_dir, cell, 0.7), parent_run=run)
    read = {cell.stage: cell for cell in read_study(uri, "study")}
    assert read["eval"].results[0].task == "niah_single_1"
    assert read["eval"].parent == train.digest
    assert (read["train"].sparsity, read["train"].seed, read["train"].arm) == (0.3, 0, "salient")
    assert read["train"].git_commit == COMMIT
    assert read["train"].params["algorithm.clip_high"] == "0.28"
    assert [cell.status for cell in read.values()] == ["FINISHED", "FINISHED"]
    samples = read_samples(uri, "study", read["eval"].run_id)
    assert len(samples) == 40
    assert samples[0].references == ("answer",)
    assert read_curve(uri, read["train"].run_id, "reward") == tuple(rewards(train, 0.7))


def test_syncing_again_from_a_new_process_adds_no_run_and_no_point(tracked_runs):
    runs_dir, uri = tracked_runs
    train, _ = pair(SALIENT)
    write_cell(runs_dir, train, 0.7)
    for _ in range(3):
        store, run = planned_store(tracked_runs, train)
        store.sync_cell(train, cell_dir(runs_dir, train.digest), parent_run=run)
        store.close(run, "FINISHED")
    client, runs = runs_of(uri)
    assert len(runs) == 1
    assert len(client.get_metric_history(runs[0].info.run_id, "reward")) == 12
    everything = client.search_runs([runs[0].info.experiment_id])
    assert len(everything) == 2  # the plan and the cell


def test_a_running_cell_grows_and_a_torn_last_line_waits(tracked_runs):
    runs_dir, uri = tracked_runs
    train, _ = pair(SALIENT)
    directory = cell_dir(runs_dir, train.digest)
    create(directory, train)
    store, run = planned_store(tracked_runs, train)
    store.sync_cell(train, directory, parent_run=run)
    assert runs_of(uri)[1] == []  # nothing has started yet
    write_status(directory, Status("running", 1, started=1.0))
    points = [p._asdict() for p in rewards(train, 0.7)]
    append_lines(directory.metrics, points[:3])
    store.sync_cell(train, directory, parent_run=run)
    append_lines(directory.metrics, points[3:5])
    with directory.metrics.open("a") as stream:
        stream.write('{"step": 6, "na')
    store.sync_cell(train, directory, parent_run=run)
    client, runs = runs_of(uri)
    assert runs[0].info.status == "RUNNING"
    assert [p.step for p in read_curve(uri, runs[0].info.run_id, "reward")] == [1, 2, 3, 4, 5]
    assert len(client.get_metric_history(runs[0].info.run_id, "reward")) == 5


def test_a_step_repeated_after_a_resume_is_corrected_and_read_once(tracked_runs):
    runs_dir, uri = tracked_runs
    train, _ = pair(SALIENT)
    directory = cell_dir(runs_dir, train.digest)
    create(directory, train)
    write_status(directory, Status("running", 1, started=1.0))
    append_lines(directory.metrics, [{"step": 2, "name": "reward", "value": 0.5}])
    store, run = planned_store(tracked_runs, train)
    store.sync_cell(train, directory, parent_run=run)
    append_lines(directory.metrics, [{"step": 2, "name": "reward", "value": 0.25}])
    for _ in range(2):
        store, run = planned_store(tracked_runs, train)
        store.sync_cell(train, directory, parent_run=run)
    client, runs = runs_of(uri)
    run_id = runs[0].info.run_id
    assert [tuple(p) for p in read_curve(uri, run_id, "reward")] == [(2, "reward", 0.25)]
    assert len(client.get_metric_history(run_id, "reward")) == 2


@pytest.mark.parametrize(
    ("state", "status"),
    [("failed", "FAILED"), ("interrupted", "KILLED"), ("blocked", "KILLED"), ("done", "FINISHED")],
)
def test_the_state_of_the_cell_decides_the_status(tracked_runs, state, status):
    runs_dir, uri = tracked_runs
    _, evaluation = pair(SALIENT)
    directory = write_cell(runs_dir, evaluation, 0.7, state=state, error="out of memory")
    store, run = planned_store(tracked_runs, evaluation)
    store.sync_cell(evaluation, directory, parent_run=run)
    (cell,) = read_study(uri, "study")
    assert (cell.status, cell.state) == (status, state)
    assert cell.error == "out of memory"
    assert bool(cell.results) == (state == "done")


@pytest.mark.parametrize(
    ("code", "word"),
    [(1, "FAILED"), (-9, "KILLED"), (-15, "KILLED"), (137, "KILLED"), (2, "FAILED")],
)
def test_a_process_that_a_signal_ended_is_killed_and_one_that_crashed_has_failed(code, word):
    assert run_status(Status("failed", exit_code=code)) == word


def test_the_data_of_a_cell_and_the_load_of_its_machine_are_in_its_run(tracked_runs):
    runs_dir, uri = tracked_runs
    train, evaluation = pair(SALIENT)
    _, run = planned_store(tracked_runs, train, evaluation)
    for cell in (train, evaluation):
        directory = write_cell(runs_dir, cell, 0.7)
        facts = {**read_json(directory.provenance), "data_sha256": cell.digest}
        write_json(directory.provenance, facts)
        mark_done(directory)
        append_lines(directory.system, [{"time": 100.5, "process_memory_megabytes": 512.0}])
        for _ in range(2):
            store = open_store(uri, runs_dir=runs_dir, study="study")
            store.sync_cell(cell, directory, parent_run=run)
    client, runs = runs_of(uri)
    used = {found.data.tags["longact.stage"]: found.inputs.dataset_inputs for found in runs}
    assert [(one.dataset.name, one.dataset.digest) for one in used["eval"]] == [
        ("ruler", evaluation.digest[:36])
    ]
    assert used["train"][0].tags[0].value == "training"
    (point,) = client.get_metric_history(runs[0].info.run_id, "system/process_memory_megabytes")
    assert (point.value, point.timestamp, point.step) == (512.0, 100500, 0)


def test_a_failed_cell_that_is_retried_ends_as_one_finished_run(tracked_runs):
    runs_dir, uri = tracked_runs
    _, evaluation = pair(SALIENT)
    store, run = planned_store(tracked_runs, evaluation)
    directory = write_cell(runs_dir, evaluation, 0.7, state="failed", error="killed")
    store.sync_cell(evaluation, directory, parent_run=run)
    write_status(directory, Status("running", 2, started=3.0))
    store.sync_cell(evaluation, directory, parent_run=run)
    assert runs_of(uri)[1][0].info.status == "RUNNING"
    write_cell(runs_dir, evaluation, 0.7)
    store.sync_cell(evaluation, directory, parent_run=run)
    (cell,) = read_study(uri, "study")
    assert (cell.status, cell.error) == ("FINISHED", None)


def test_a_planned_cell_that_never_started_is_listed_as_pending(tracked_runs):
    _, uri = tracked_runs
    train, evaluation = pair(SALIENT)
    planned_store(tracked_runs, train, evaluation)
    cells = read_study(uri, "study")
    assert [(cell.state, cell.run_id) for cell in cells] == [("pending", None)] * 2
    assert cells[0].params["mask.sparsity"] == "0.3"


def test_values_that_are_not_finite_and_odd_names_do_not_stop_the_sync(tracked_runs):
    runs_dir, uri = tracked_runs
    train, _ = pair(SALIENT)
    directory = cell_dir(runs_dir, train.digest)
    create(directory, train)
    write_status(directory, Status("running", 1))
    directory.metrics.write_text(
        '{"step": 1, "name": "kl", "value": NaN}\n{"step": 2, "name": "kl", "value": Infinity}\n'
        '{"step": 3, "name": "acc@32k=ü", "value": 0.5}\n'
    )
    store, run = planned_store(tracked_runs, train)
    store.sync_cell(train, directory, parent_run=run)
    assert runs_of(uri)[1][0].data.metrics == {"acc_32k__": 0.5}


@pytest.mark.parametrize(
    ("name", "clean"),
    [("a/b c", "a/b c"), ("../x", "x"), ("a//b", "a/b"), ("é", "_"), ("", "_"), ("n:1%", "n:1_")],
)
def test_metric_names_fit_mlflow(name, clean):
    assert metric_name(name) == clean


def test_a_thousand_and_more_points_arrive(tracked_runs):
    runs_dir, uri = tracked_runs
    train, _ = pair(SALIENT)
    directory = cell_dir(runs_dir, train.digest)
    create(directory, train)
    write_status(directory, Status("running", 1))
    points = [{"step": i, "name": "reward", "value": i / 7} for i in range(2500)]
    append_lines(directory.metrics, points)
    store, run = planned_store(tracked_runs, train)
    store.sync_cell(train, directory, parent_run=run)
    run_id = runs_of(uri)[1][0].info.run_id
    curve = read_curve(uri, run_id, "reward")
    assert [point.value for point in curve] == [i / 7 for i in range(2500)]


def test_reasons_of_several_plans_are_kept_and_the_run_hangs_below_the_last(tracked_runs):
    runs_dir, uri = tracked_runs
    base = base_cell()
    directory = write_cell(runs_dir, base, 0.2)
    store, first = planned_store(tracked_runs, base)
    store.sync_cell(base, directory, parent_run=first)
    train, _ = pair(SALIENT)
    again = type(base)(**{**vars(base), "asked_by": ("control",)})
    store, second = planned_store(tracked_runs, again, train)
    store.sync_cell(again, directory, parent_run=second)
    _, runs = runs_of(uri)
    assert runs[0].data.tags["longact.asked_by"] == "base,control"
    assert runs[0].data.tags["mlflow.parentRunId"] == second != first
    (cell,) = [cell for cell in read_study(uri, "study") if cell.arm == "base"]
    assert (cell.seed, cell.algorithm, cell.sparsity) == (None, None, None)
    assert not any(key.startswith("algorithm") for key in cell.params)


def test_two_studies_keep_their_cells_and_files_apart(tracked_runs):
    runs_dir, uri = tracked_runs
    base = base_cell()
    directory = write_cell(runs_dir, base, 0.2)
    hostile = "a/../b 'c' \"d\" é"
    for study in ("plain", hostile):
        store, run = planned_store(tracked_runs, base, study=study)
        store.sync_cell(base, directory, parent_run=run)
        assert [cell.digest for cell in read_study(uri, study)] == [base.digest]
    assert list_studies(uri) == tuple(sorted(("plain", hostile)))
    assert artifact_folder(runs_dir, "plain") == runs_dir / "artifacts" / "plain"
    assert artifact_folder(runs_dir, hostile).parent == runs_dir / "artifacts"


def test_a_moved_store_can_be_read_and_written_in_its_new_place(tracked_runs):
    runs_dir, uri = tracked_runs
    base = base_cell()
    store, run = planned_store(tracked_runs, base)
    store.sync_cell(base, write_cell(runs_dir, base, 0.2), parent_run=run)
    other, other_run = planned_store(tracked_runs, base, study="study-2")
    other.sync_cell(base, cell_dir(runs_dir, base.digest), parent_run=other_run)
    moved = runs_dir.rename(runs_dir.parent / "elsewhere")
    uri = default_tracking_uri(moved)
    (cell,) = read_study(uri, "study")
    assert len(read_samples(uri, "study", cell.run_id)) == 40
    train, _ = pair(SALIENT)
    again = open_store(uri, runs_dir=moved, study="study")
    parent = again.start_plan(Plan("study", (base, train)), "longact ablate")
    again.sync_cell(train, write_cell(moved, train, 0.7), parent_run=parent)
    client, runs = runs_of(uri)
    folder = f"file://{moved}/artifacts/study/".replace(" ", "%20")
    assert all(run.info.artifact_uri.startswith(folder) for run in runs)
    # MLflow itself finds the files, and the other study keeps its own place.
    assert client.list_artifacts(cell.run_id)
    assert runs_of(uri, "study-2")[1][0].info.artifact_uri.startswith("file://" + str(runs_dir)[:9])
    assert not runs_dir.exists()


def test_reading_a_store_that_is_not_there_creates_nothing(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert list_studies(uri) == ()
    assert read_study(uri, "study") == ()
    assert list(tmp_path.iterdir()) == []


def test_a_broken_database_is_one_line_of_error(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database, " * 50)
    with pytest.raises(TrackingError, match="results on disk are kept") as caught:
        open_store(f"sqlite:///{tmp_path}/mlflow.db", runs_dir=tmp_path, study="study")
    assert "\n" not in str(caught.value)
