import subprocess
import sys

import pytest

import longact_cli
from longact_cli.errors import ConfigError, NotFoundError, UnknownNameError
from longact_cli.reporting.frame import SAMPLE_COLUMNS, SCORE_COLUMNS
from longact_cli.tracking.database import read_points, read_runs, study_names


def test_load_gives_the_frame_of_the_tables(paper_store):
    frame = longact_cli.load(tracking_uri=paper_store, settings=("mask.scope",))
    assert tuple(frame.columns) == (*SAMPLE_COLUMNS, "mask.scope")
    assert frame["score"].isna().equals(frame["failed"])
    scores = frame[frame["arm"] == "salient"].groupby("sparsity")["score"].mean()
    assert scores.idxmax() == pytest.approx(0.3)
    assert frame["commit"].str.startswith("c0ffee").all()


def test_load_gives_scores_as_the_benchmark_counted_them(hostile_study):
    uri, study = hostile_study
    frame = longact_cli.load(tracking_uri=uri, experiment=study, level="scores")
    assert tuple(frame.columns) == SCORE_COLUMNS
    assert frame["n_failed"].sum() == 1


def test_load_names_what_is_wrong(paper_store, tmp_path):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'mask\.scope'"):
        longact_cli.load(tracking_uri=paper_store, settings=("mask.scop",))
    with pytest.raises(ConfigError, match="level is 'rows'"):
        longact_cli.load(tracking_uri=paper_store, level="rows")
    with pytest.raises(NotFoundError, match="holds no study yet"):
        longact_cli.load(tmp_path)


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, longact_cli; longact_cli.load; "
        "sys.exit(any(name in sys.modules for name in ('pandas', 'numpy', 'mlflow', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_report_on_a_sqlite_store_needs_no_mlflow(paper_store):
    code = (
        "import sys; from longact_cli.reporting.frame import load_study; "
        f"load_study({paper_store!r}, 'paper'); sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_file_says_what_mlflow_says(hostile_study):
    from mlflow import MlflowClient

    uri, study = hostile_study
    database = longact_cli.tracking.database_file(uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(study)
    assert set(study_names(database)) == {e.name for e in client.search_experiments()}
    theirs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    ours = {run.run_id: run for run in read_runs(database, study)}
    assert ours.keys() == theirs.keys()
    for run_id, run in ours.items():
        info, data = theirs[run_id].info, theirs[run_id].data
        assert (run.status, run.started, run.ended) == (
            info.status,
            info.start_time,
            info.end_time,
        )
        assert (run.tags, run.params, run.metrics) == (data.tags, data.params, data.metrics)
        for name in data.metrics:
            points = {
                (p.timestamp, p.step, p.value) for p in client.get_metric_history(run_id, name)
            }
            assert set(read_points(database, run_id, name)) == points


def test_a_deleted_run_is_not_read(hostile_study, tmp_path):
    import shutil
    import sqlite3

    uri, study = hostile_study
    copy = tmp_path / "mlflow.db"
    shutil.copy(longact_cli.tracking.database_file(uri), copy)
    before = len(read_runs(copy, study))
    with sqlite3.connect(copy) as sql:
        sql.execute(
            "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = "
            "(SELECT run_uuid FROM runs WHERE status = 'FAILED' LIMIT 1)"
        )
    assert len(read_runs(copy, study)) == before - 1
