"""A second report from a real MLflow server asks for little and misses nothing."""

import shutil
import sqlite3
from itertools import count

import pytest
from mlflow.exceptions import RestException

from bulk_store import Bench, Trained, add_runs, serve_files, write_study
from longact_cli.cells import Status, cell_dir, write_status
from longact_cli.errors import NotFoundError
from longact_cli.reporting.report import write_report
from longact_cli.reporting.request import ReportRequest
from longact_cli.reporting.reuse import forget, report_again
from longact_cli.tracking import TrackingError, listing, server
from longact_cli.tracking.client import connect
from longact_cli.tracking.query import read_curves, read_samples, read_study
from longact_cli.tracking.store import open_store
from mlflow_server import Server
from synthetic_store import Setting, write_cell
from synthetic_store import write_study as write_cells

pytestmark = pytest.mark.slow

BENCHES = (Bench("ruler", ("vt",), (4096,), 4),)
REQUEST = ReportRequest(("sparsity", "scores", "compute"), ("md", "csv"), "longact report")
SETTINGS = [Trained("qwen3-4b", "dapo", "salient", 0.3, seed, 0.3) for seed in range(3)]
LATE = [Trained("qwen3-4b", "dapo", "random", 0.3, seed, 0.1) for seed in range(2)]
AGO = "1600000000000"
numbers = count()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    template = folder / "empty.db"
    connect(f"sqlite:///{template}").search_experiments()
    made = Server(folder / "store", template=template)
    made.start()
    yield made
    made.kill()


class Served:
    """A study of its own on the server, with its report from a cache and from none."""

    def __init__(self, running, folder):
        self.running, self.uri = running, running.uri
        self.study = f"study-{next(numbers)}"
        self.folder = folder
        self.cache, self.out = folder / "cache", folder / "out"
        self.client = connect(self.uri)

    def fill(self):
        write_study(self.running.folder, self.study, SETTINGS, benches=BENCHES)
        serve_files(self.running.folder)

    def report(self):
        report_again(self.uri, (self.study,), REQUEST, out=self.out, cache=self.cache)
        return self.read(self.out)

    def fresh(self):
        folder = self.folder / "fresh"
        write_report(self.uri, (self.study,), REQUEST, out=folder)
        found = self.read(folder)
        shutil.rmtree(folder)
        return found

    @staticmethod
    def read(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def sql(self, statement, *values):
        with sqlite3.connect(self.running.folder / "mlflow.db", timeout=20) as sql:
            assert sql.execute(statement, values).rowcount > 0

    def evaluations(self):
        cells = read_study(self.uri, self.study)
        return [cell for cell in cells if cell.stage == "eval" and cell.run_id]

    def age(self):
        """Let all that was written be long ago."""
        self.sql("UPDATE tags SET value = ? WHERE key = 'longact.written'", AGO)


@pytest.fixture
def served(running, tmp_path):
    return Served(running, tmp_path)


@pytest.fixture
def asked(monkeypatch):
    """What was asked of the server: the runs it sent, and the files."""
    found = []
    record, fetch = server._record, server.fetch

    def recorded(run):
        found.append(run["info"]["run_id"])
        return record(run)

    def fetched(uri, location, run_id, name):
        found.append((run_id, name))
        return fetch(uri, location, run_id, name)

    monkeypatch.setattr(server, "_record", recorded)
    monkeypatch.setattr(server, "fetch", fetched)
    return found


def test_the_same_report_again_asks_for_nothing_that_is_known(served, asked):
    served.fill()
    first = served.report()
    assert len({one for one in asked if isinstance(one, str)}) == 7  # three pairs and the plan
    assert len({one for one in asked if isinstance(one, tuple)}) == 7  # two for each, and the plan
    before = {path.name: path.stat().st_ino for path in served.out.iterdir()}
    asked.clear()
    assert served.report() == first
    assert {path.name: path.stat().st_ino for path in served.out.iterdir()} == before
    assert len(asked) <= 2  # the newest by `longact.written`, and the last by the count
    assert first == served.fresh()


def late_copies(served):
    """Runs that ended, and were written, long before those that are known."""
    add_runs(served.running.folder, served.study, LATE, benches=BENCHES)
    serve_files(served.running.folder)
    served.age()


def deleted(served):
    served.client.delete_run(served.evaluations()[0].run_id)


def destroyed(served):
    """`mlflow gc` leaves no trace of a deleted run."""
    run_id = served.evaluations()[0].run_id
    for table in ("tags", "params", "runs"):
        served.sql(f"DELETE FROM {table} WHERE run_uuid = ?", run_id)


def replaced(served):
    """As many runs as before, but not the same."""
    deleted(served)
    add_runs(served.running.folder, served.study, LATE[:1], benches=())
    serve_files(served.running.folder)


@pytest.mark.parametrize("change", [late_copies, deleted, destroyed, replaced])
def test_runs_that_come_and_go_are_in_the_next_report(served, change, asked):
    served.fill()
    first = served.report()
    change(served)
    asked.clear()
    second = served.report()
    files = {one for one in asked if isinstance(one, tuple)}
    assert len(files) == (2 * len(LATE) if change is late_copies else 1)  # else the plan
    assert second == served.fresh()
    assert second != first


def test_a_run_that_is_restored_is_there_again(served):
    served.fill()
    first = served.report()
    run_id = served.evaluations()[0].run_id
    served.client.delete_run(run_id)
    assert served.report() != first
    served.client.restore_run(run_id)
    assert served.report() == first


def test_a_cell_that_was_done_again_is_seen_by_what_its_writer_leaves(served):
    """Its end, by the clock of the cell, is as long ago as all others."""
    runs_dir = served.folder / "runs"
    settings = [Setting("salient", 0.3, seed, 0.9) for seed in range(2)]
    plan = write_cells(runs_dir, served.uri, served.study, settings)
    served.age()
    first = served.report()
    cell = plan.cells[-1]
    shutil.rmtree(cell_dir(runs_dir, cell.digest).path)
    directory = write_cell(runs_dir, cell, 0.1)
    write_status(directory, Status("done", 1, None, None, started=1.0, finished=3.0))
    store = open_store(served.uri, runs_dir=runs_dir, study=served.study)
    run_id = next(run.run_id for run in served.evaluations() if run.digest == cell.digest)
    parent = served.client.get_run(run_id).data.tags["mlflow.parentRunId"]
    assert store.sync_cell(cell, directory, parent_run=parent)
    second = served.report()
    assert second == served.fresh()
    assert second != first
    written = served.client.get_run(run_id).data.tags["longact.written"]
    assert not store.sync_cell(cell, directory, parent_run=parent)
    assert served.client.get_run(run_id).data.tags["longact.written"] == written > AGO


def assert_a_change_by_hand_is_seen(served):
    first = served.report()
    served.client.set_tag(served.evaluations()[0].run_id, "longact.git_commit", "another")
    second = served.report()
    assert second == served.fresh()
    assert second != first


def test_what_was_written_in_the_last_minutes_is_asked_for_again(served):
    """A write takes a while, and what was read in its middle bears its time already."""
    served.fill()
    lately = str(listing.server_time(served.uri) - 300_000)
    served.sql("UPDATE tags SET value = ? WHERE key = 'longact.written'", lately)
    assert_a_change_by_hand_is_seen(served)


def test_runs_of_an_older_version_are_asked_for_each_time(served):
    served.fill()
    served.sql("DELETE FROM tags WHERE key = 'longact.written'")
    assert_a_change_by_hand_is_seen(served)


def test_files_of_cells_that_do_not_say_which_end_was_copied_are_read_each_time(served):
    served.fill()
    served.sql("DELETE FROM tags WHERE key = 'longact.replicated'")
    first = served.report()
    for path in served.running.folder.glob(f"artifacts/{served.study}/*/artifacts/samples.jsonl"):
        path.write_text(path.read_text("utf-8").replace('"score": 1.0', '"score": 0.0'), "utf-8")
    second = served.report()
    assert second == served.fresh()
    assert second != first


def test_a_tag_changed_by_hand_is_seen_after_a_refresh(served):
    served.fill()
    first = served.report()
    served.client.set_tag(served.evaluations()[0].run_id, "longact.git_commit", "another")
    assert served.report() == first
    forget(served.cache)
    assert served.report() == served.fresh() != first


def test_a_server_that_does_not_understand_is_asked_for_all_runs(served, monkeypatch):
    served.fill()
    first = served.report()
    late_copies(served)

    def refused(*_):
        raise RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such thing"})

    with monkeypatch.context() as patch:
        patch.setattr(listing, "counts", refused)
        second = served.report()
    assert second == served.fresh() != first


def test_runs_that_come_while_the_server_is_asked_are_asked_for_again(served, monkeypatch):
    served.fill()
    served.report()
    searched = []

    def disturbed(uri, question):
        found = server.search_all(uri, question)
        searched.append(question)
        if len(searched) == 16:
            late_copies(served)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(listing, "search_all", disturbed)
        second = served.report()
    assert second == served.fresh()


def test_files_that_the_server_does_not_give_out_are_read_where_they_lie(served):
    write_study(served.running.folder, served.study, SETTINGS, benches=BENCHES)
    found = served.evaluations()
    assert [len(read_samples(served.uri, served.study, cell.run_id)) for cell in found] == [4] * 3


def test_curves_and_progress(served):
    served.fill()
    told = []
    files = listing.listed_runs(served.uri, served.study, None, lambda *one: told.append(one))
    assert told[-1] == ("runs", 16, 16)
    trained = [run.run_id for run in files if run.tags.get("longact.stage") == "train"]
    curves = read_curves(served.uri, trained, "reward")
    assert [len(curves[run_id]) for run_id in trained] == [20] * 3


def test_a_study_or_a_file_that_is_not_there_is_named(served):
    assert read_study(served.uri, served.study) == ()
    with pytest.raises(NotFoundError, match=served.study):
        served.report()
    served.fill()
    trained = next(cell for cell in read_study(served.uri, served.study) if cell.stage == "train")
    with pytest.raises(TrackingError, match=r"samples\.jsonl"):
        read_samples(served.uri, served.study, trained.run_id)
