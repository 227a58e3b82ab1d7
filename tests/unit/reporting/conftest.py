"""Studies the report is tested on."""

import shutil

import pytest

from bulk_store import Trained, paper_settings, write_store
from longact_cli.plan import Plan
from longact_cli.tracking.store import open_store
from synthetic_store import Setting, base_cell, pair, write_cell

HOSTILE_STUDY = "50% of $rows_ & <b>x</b> | {a} #1 ~^\\ é漢"
HOSTILE_MODEL = "mi_cro|<i>&%$#{}~^\\ `x` 漢"
SETTINGS = (
    Setting("dense", 1.0, 0, 0.45, HOSTILE_MODEL),
    Setting("dense", 1.0, 1, 0.5, HOSTILE_MODEL),
    Setting("salient", 0.3, 0, 0.8, HOSTILE_MODEL),
    Setting("salient", 0.3, 1, 0.75, HOSTILE_MODEL),
    Setting("random", 0.3, 0, 0.5, HOSTILE_MODEL),
)
FAILED = Setting("random", 0.3, 1, 0.5, HOSTILE_MODEL)
NEVER_RUN = Setting("salient", 0.5, 0, 0.5, HOSTILE_MODEL)


@pytest.fixture(scope="session")
def hostile_study(tmp_path_factory, empty_database):
    """URI and name of a study with odd names, a failed answer, a failed cell and pending ones.

    Only to be read.
    """
    runs_dir = tmp_path_factory.mktemp("hostile") / "my runs"
    runs_dir.mkdir()
    shutil.copy(empty_database, runs_dir / "mlflow.db")
    uri = f"sqlite:///{runs_dir}/mlflow.db"
    base = base_cell(HOSTILE_MODEL)
    written = [(base, write_cell(runs_dir, base, 0.2, fail_first=True))]
    for setting in SETTINGS:
        for cell in pair(setting):
            written.append((cell, write_cell(runs_dir, cell, setting.probability)))
    train, evaluation = pair(FAILED)
    error = "out of memory: <3 GiB> & 50%_\nsecond | line"
    written.append((train, write_cell(runs_dir, train, 0.5, state="failed", error=error)))
    reason = "its training did not finish"
    written.append(
        (evaluation, write_cell(runs_dir, evaluation, 0.5, state="blocked", error=reason))
    )
    cells = (*(cell for cell, _ in written), *pair(NEVER_RUN))
    store = open_store(uri, runs_dir=runs_dir, study=HOSTILE_STUDY)
    run = store.start_plan(Plan(HOSTILE_STUDY, cells), "longact ablate")
    for cell, directory in written:
        store.sync_cell(cell, directory, parent_run=run)
    store.close(run, "FAILED")
    return uri, HOSTILE_STUDY


@pytest.fixture(scope="session")
def paper_store(tmp_path_factory, empty_database):
    """URI of a study with over 300 runs; only to be read."""
    folder = tmp_path_factory.mktemp("paper")
    failed = [Trained("qwen3-8b", "grpo", "salient", 0.3, 0, 0.0)]
    models = ("qwen3-4b", "qwen3-8b")
    return write_store(
        folder, empty_database, "paper", paper_settings(), models=models, failed=failed
    )
