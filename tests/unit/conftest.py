"""Fixtures of the unit tests."""

import shutil
from pathlib import Path

import pytest

from longact_cli.tracking import default_tracking_uri


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without studies; creating one takes seconds, copying it does not."""
    from longact_cli.tracking.client import connect

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracked_runs(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, str]:
    """A fresh store (its folder has a space in the name) and its tracking URI."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs_dir = tmp_path / "my runs"
    runs_dir.mkdir()
    shutil.copy(empty_database, runs_dir / "mlflow.db")
    return runs_dir, default_tracking_uri(runs_dir)
