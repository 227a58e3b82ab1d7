"""A warm cache never changes a byte of a report, whatever has happened to store and cache since."""

import json
import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bulk_store import Bench, Trained, add_runs, write_store
from longact_cli.reporting import reuse
from longact_cli.reporting.frame import load_study
from longact_cli.reporting.report import write_report
from longact_cli.reporting.request import ReportRequest
from longact_cli.reporting.reuse import report_again
from longact_cli.tracking import TrackingError, artifact_folder, cache_file, run_files, signatures

BENCHES = (Bench("ruler", ("vt", "cwe"), (4096,), 6),)
REQUEST = ReportRequest(
    ("sparsity", "scores", "compute"), ("md", "csv", "json", "tex"), "longact report"
)


def settings(*seeds):
    return [
        Trained("qwen3-4b", "dapo", mask, 0.3, seed, gain)
        for mask, gain in (("salient", 0.3), ("random", 0.1))
        for seed in seeds
    ]


class Store:
    """A store with its report, cold and warm."""

    def __init__(self, folder, database):
        self.runs_dir = folder
        self.cache = folder / "cache"
        self.out = folder / "reports"
        self.uri = write_store(folder, database, "study", settings(0, 1), benches=BENCHES)

    def report(self, request=REQUEST):
        return report_again(self.uri, ("study",), request, out=self.out, cache=self.cache)

    def written(self):
        return {path.name: path.read_bytes() for path in self.out.iterdir()}

    def files(self):
        """Which files these are: a file that is written again is another one."""
        found = ((path.name, path.stat()) for path in self.out.iterdir())
        return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found}

    def fresh(self):
        """What a report without any cache writes."""
        folder = self.runs_dir / "fresh"
        write_report(self.uri, ("study",), REQUEST, out=folder)
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        shutil.rmtree(folder)
        return found

    def sql(self, statement):
        with sqlite3.connect(self.runs_dir / "mlflow.db") as sql:
            assert sql.execute(statement).rowcount > 0

    def samples(self):
        folder = artifact_folder(self.runs_dir, "study")
        return sorted(folder.glob("*/artifacts/samples.jsonl"))

    def kept(self, kind):
        (path,) = self.cache.glob(f"{kind}-*.json")
        return path


@pytest.fixture
def store(tmp_path, empty_database, monkeypatch):
    monkeypatch.setattr(signatures, "_SETTLED_NS", 0)
    return Store(tmp_path, empty_database)


def test_a_report_of_an_unchanged_store_is_left_as_it_is_and_shown_again(store):
    first = store.report()
    files, written = store.files(), store.written()
    second = store.report()
    assert second == first
    assert store.files() == files
    assert store.written() == written == store.fresh()


def new_runs(store):
    add_runs(store.runs_dir, "study", settings(2), benches=BENCHES)


def deleted_run(store):
    store.sql(
        "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = (SELECT run_uuid FROM tags "
        "WHERE key = 'longact.stage' AND value = 'eval' ORDER BY run_uuid LIMIT 1)"
    )


def changed_tag(store):
    store.sql("UPDATE tags SET value = '1000' WHERE key = 'longact.tokens'")


def changed_status(store):
    store.sql(
        "UPDATE runs SET status = 'FAILED' WHERE run_uuid = "
        "(SELECT run_uuid FROM tags WHERE key = 'longact.benchmark' ORDER BY run_uuid LIMIT 1)"
    )


def changed_score(store):
    """Same size, same times: an answer that was right is wrong."""
    for path in store.samples():
        text = path.read_text("utf-8")
        if '"score": 1.0' in text:
            before = path.stat()
            path.write_text(text.replace('"score": 1.0', '"score": 0.0', 1), "utf-8")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            return
    raise AssertionError


def renamed_run(store):
    store.sql("UPDATE tags SET value = value || ' more' WHERE key = 'longact.label'")


@pytest.mark.parametrize(
    "change",
    [new_runs, deleted_run, changed_tag, changed_status, changed_score, renamed_run],
    ids=lambda change: change.__name__,
)
def test_a_change_of_the_store_is_in_the_next_report(store, change):
    store.report()
    before = store.written()
    change(store)
    store.report()
    assert store.written() == store.fresh()
    assert store.written() != before


def test_only_what_is_new_is_read(store, monkeypatch):
    """The answers of the others come from the cache, and give the same frame."""
    load_study(store.uri, "study", cache=store.cache)
    new_runs(store)
    read = []
    answers_of = run_files.answers_of
    monkeypatch.setattr(
        "longact_cli.tracking.query.answers_of", lambda rows: read.append(1) or answers_of(rows)
    )
    warm = load_study(store.uri, "study", cache=store.cache).samples
    assert len(read) == len(settings(2))
    assert warm.equals(load_study(store.uri, "study").samples)
    assert warm["failed"].any()


def test_what_was_read_before_an_outage_is_not_read_again(store, monkeypatch):
    read = []

    def sometimes(rows):
        read.append(1)
        if len(read) == 3:
            raise TrackingError("the server is away")
        return answers_of(rows)

    answers_of = run_files.answers_of
    monkeypatch.setattr("longact_cli.tracking.query.answers_of", sometimes)
    with pytest.raises(TrackingError):
        load_study(store.uri, "study", cache=store.cache)
    warm = load_study(store.uri, "study", cache=store.cache).samples
    assert len(read) == len(settings(0, 1)) + 1
    assert warm.equals(load_study(store.uri, "study").samples)


def old_version(path):
    path.write_bytes(path.read_bytes().replace(b" cache 1 ", b" cache 0 ", 1))


def torn(path):
    path.write_bytes(path.read_bytes()[:-200])


def empty(path):
    path.write_bytes(b"")


def foreign(path):
    path.write_bytes(b'{"state": 1}\n{"files": []}\n\xff')


def flipped(path):
    """One digit of what is kept is another one."""
    data = bytearray(path.read_bytes())
    place = data.rindex(b"1")
    data[place] = ord("2")
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage", [old_version, torn, empty, foreign, flipped], ids=lambda damage: damage.__name__
)
@pytest.mark.parametrize("kind", ["report", "answers"])
def test_a_damaged_or_older_cache_is_ignored_and_written_anew(store, damage, kind):
    store.report()
    before, files = store.kept(kind).read_bytes(), store.files()
    damage(store.kept(kind))
    store.report()
    assert (store.files() == files) == (kind == "answers")  # then the report itself was known
    changed_tag(store)
    store.report()
    assert store.written() == store.fresh()
    assert cache_file.read_cache(store.kept(kind)) is not None
    if kind == "answers":
        assert store.kept(kind).read_bytes() == before


def test_a_cache_that_cannot_be_written_is_done_without(store):
    store.cache.write_text("in the way")
    store.report()
    store.report()
    assert store.written() == store.fresh()


def test_the_cache_does_not_grow_without_end(tmp_path):
    for number in range(40):
        cache_file.write_cache(tmp_path / f"report-{number}.json", number)
        os.utime(tmp_path / f"report-{number}.json", ns=(number, number))
    assert len(list(tmp_path.iterdir())) == 32
    assert cache_file.read_cache(tmp_path / "report-39.json") == 39
    assert cache_file.read_cache(tmp_path / "report-0.json") is None


def test_a_file_of_the_report_that_is_gone_or_changed_is_written_again(store):
    store.report()
    written = store.written()
    (store.out / "runs.csv").unlink()
    (store.out / "sparsity.md").write_text("by hand")
    store.report()
    assert store.written() == written


def test_another_command_into_the_same_folder_is_noticed(store):
    store.report()
    store.report(replace(REQUEST, command="longact report --quiet"))
    assert store.written() != store.fresh()
    store.report()
    assert store.written() == store.fresh()


def test_what_was_kept_for_another_report_is_not_taken_for_this_one(store):
    first = store.report()
    other = replace(REQUEST, tables=("compute",))
    (kept,) = store.cache.glob("report-*.json")
    second = store.report(other)
    (mine,) = set(store.cache.glob("report-*.json")) - {kept}
    shutil.copy(kept, mine)
    assert store.report(other) == second != first


def test_another_package_or_code_makes_the_report_anew(store, monkeypatch):
    store.report()
    files = store.files()
    monkeypatch.setattr(reuse, "version", lambda name: "0")
    store.report()
    assert all(now != files[name] for name, now in store.files().items())


def test_what_changes_while_the_report_is_made_is_not_taken_for_what_was_read(store, monkeypatch):
    def disturbed(*args, **kwargs):
        done = write_report(*args, **kwargs)
        changed_tag(store)
        return done

    with monkeypatch.context() as patch:
        patch.setattr("longact_cli.reporting.report.write_report", disturbed)
        store.report()
    store.report()
    assert store.written() == store.fresh()


def test_files_that_were_just_written_are_not_kept(store, monkeypatch):
    monkeypatch.setattr(signatures, "_SETTLED_NS", 3_600_000_000_000)
    store.report()
    assert not store.cache.exists()


def test_two_reports_at_the_same_time_agree(store):
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: store.report(), range(4)))
    assert all(one.tables == done[0].tables for one in done)
    assert store.written() == store.fresh()
    files = store.files()
    store.report()
    assert store.files() == files


def test_every_table_comes_back_from_the_cache_as_it_was(hostile_study, tmp_path):
    uri, study = hostile_study
    request = ReportRequest(("all",), ("csv",), "longact report")
    tables = write_report(uri, (study,), request, out=tmp_path).tables
    assert len(tables) > 5
    kept = json.loads(json.dumps([reuse._packed(table) for table in tables]))
    assert tuple(reuse._unpacked(*table) for table in kept) == tables


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_every_transaction_changes_the_signature_of_a_database(tmp_path, mode):
    path = tmp_path / "mlflow.db"
    seen = []
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("CREATE TABLE x (y INTEGER)")
        other.commit()
        for value in range(5):
            other.execute("DELETE FROM x")
            other.execute("INSERT INTO x VALUES (?)", (value,))
            other.commit()
            os.utime(path, ns=(0, 0))
            found = signatures.database_signature(path)
            assert signatures.database_signature(path) == found
            seen.append(found[:2] + found[3:])  # without the time of change, which may be coarse
    other.close()
    assert len({tuple(found) for found in seen}) == 5


def test_a_database_in_the_middle_of_a_transaction_has_no_signature(tmp_path):
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as sql:
        sql.execute("CREATE TABLE x (y INTEGER)")
        sql.commit()
        sql.execute("INSERT INTO x VALUES (1)")
        assert signatures.database_signature(path) is None
        sql.commit()
        assert signatures.database_signature(path) is not None
    sql.close()
