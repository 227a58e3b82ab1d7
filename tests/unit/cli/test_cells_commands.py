"""`status`, `logs` and `diff` over a small store, as real commands."""

import json
import os
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from longact_cli.cells import Status, cell_dir, create, write_status
from longact_cli.cli.app import app
from longact_cli.config.compose import compose, parse
from longact_cli.errors import ConfigError
from longact_cli.execution.overview import current_status
from longact_cli.execution.preflight import check_runs_dir
from longact_cli.files import write_json
from longact_cli.holding import hold
from longact_cli.plan import Plan, eval_cell, train_cell
from longact_cli.tracking.plans import holding_plan, write_plan


def longact(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "longact_cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "COLUMNS": "200"},
    )


def make(runs_dir, *overrides, state="done", commit="a" * 40, stage="train"):
    cell = train_cell(compose(parse(overrides)), lambda _model: "weights")
    if stage == "eval":
        cell = eval_cell(compose(parse(overrides)), lambda _model: "weights", parent=cell)
    directory = cell_dir(runs_dir, cell.digest)
    create(directory, cell)
    write_status(directory, Status(state, 1, started=1.0, finished=2.0))
    write_json(directory.provenance, {"git_commit": commit, "packages": {"trl": "1.16.0"}})
    return cell, directory


@pytest.fixture
def store(tmp_path):
    runs = tmp_path / "runs"
    first = make(runs, "mask.sparsity=0.3")
    second = make(runs, "mask.sparsity=0.5", "executor.workers=7", commit="b" * 40)
    return tmp_path, first, second


def test_status_lists_cells_and_counts_states(store):
    folder, *_ = store
    lines = longact("status", cwd=folder).stdout.splitlines()
    assert lines[0].split() == ["digest", "cell", "state", "tries", "time", "error"]
    assert "train micro dapo salient 0.3 seed 0" in lines[1]
    assert lines[-1] == "2 cells: 2 done"


def test_a_watched_store_prints_changes_and_ends_when_nothing_is_at_work(store):
    folder, (_, directory), _ = store
    with hold(directory):
        write_status(directory, Status("running", 2, started=time.time()))
        command = [sys.executable, "-m", "longact_cli", "status", "--watch", "--json"]
        watcher = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        seen = [json.loads(watcher.stdout.readline()) for _ in range(2)]
        assert sorted(row["state"] for row in seen) == ["done", "running"]
        write_status(directory, Status("failed", 2, 1, "out of memory", 1.0, 2.0))
    last = json.loads(watcher.stdout.readline())
    assert (last["state"], last["error"]) == ("failed", "out of memory")
    assert watcher.communicate(timeout=60)[0] == ""
    assert watcher.returncode == 0


def test_logs_are_found_by_digest_and_by_words_of_the_name(store):
    folder, (cell, directory), _ = store
    directory.stdout.write_text("one\ntwo\nthree\n")
    directory.stderr.write_text("warning\n")
    assert longact("logs", cell.digest[:8], "-n", "2", cwd=folder).stdout == "two\nthree\n"
    assert longact("logs", "train 0.3", "--stderr", cwd=folder).stdout == "warning\n"
    row = json.loads(longact("logs", "train 0.3", "-n", "1", "--json", cwd=folder).stdout)
    assert row == {"digest": cell.digest, "line": "three"}


def test_logs_can_be_followed_until_the_cell_ends(store):
    folder, (cell, directory), _ = store
    directory.stdout.write_text("one\ntw")
    with hold(directory):
        write_status(directory, Status("running", 2, started=time.time()))
        command = [sys.executable, "-u", "-m", "longact_cli", "logs", cell.digest[:8], "--follow"]
        follower = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert follower.stdout.readline() == "one\n"
        with directory.stdout.open("a") as stream:
            stream.write("o\nthree")
        assert follower.stdout.readline() == "two\n"
        write_status(directory, Status("done", 2, 0, None, 1.0, 2.0))
    assert follower.communicate(timeout=60)[0] == "three\n"


def test_following_a_cell_that_nobody_will_start_ends(store):
    folder, *_ = store
    cell, directory = make(folder / "runs", "seed=3", state="pending")
    directory.stdout.write_text("one\n")
    assert longact("logs", cell.digest[:8], "--follow", cwd=folder).stdout == "one\n"


@pytest.mark.parametrize(
    ("word", "code", "message"),
    [
        ("train micro dapo salent 0.3 seed 0", 3, "Did you mean 'train micro dapo salient 0.3"),
        ("train", 2, "'train' names 2 cells: "),
        ("../../etc/passwd", 3, "there is no cell '../../etc/passwd' in runs"),
    ],
)
def test_a_cell_that_is_not_there_or_not_one_is_one_line(store, word, code, message):
    folder, *_ = store
    for command in (["logs", word], ["diff", word, "0.5"]):
        done = longact(*command, cwd=folder)
        assert (done.returncode, done.stdout) == (code, "")
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_diff_names_what_makes_two_cells_different_and_what_does_not(store):
    folder, *_ = store
    done = longact("diff", "0.3", "0.5", cwd=folder)
    assert done.stdout.splitlines() == [
        "mask.sparsity: 0.3 -> 0.5",
        "executor.workers: 2 -> 7  (does not change the result)",
        f"git_commit: {'a' * 40} -> {'b' * 40}  (provenance)",
    ]
    assert "different cells" in done.stderr
    rows = longact("diff", "0.3", "0.5", "--json", cwd=folder).stdout.splitlines()
    assert json.loads(rows[0])["kind"] == "setting"
    assert json.loads(rows[-1])["differences"] == 3


def test_diff_says_when_only_the_provenance_of_a_cell_differs(store, tmp_path):
    folder, (cell, directory), _ = store
    _, other = make(tmp_path / "other", "mask.sparsity=0.3", commit="c" * 40)
    done = longact("diff", str(directory.path), str(other.path), cwd=folder)
    assert done.stdout.splitlines() == [f"git_commit: {'a' * 40} -> {'c' * 40}  (provenance)"]
    assert done.stderr.strip() == "the same cell; only its provenance differs"
    same = longact("diff", cell.digest[:8], str(directory.path), cwd=folder)
    assert (same.stdout, same.stderr.strip()) == ("", "the same cell")


def test_diff_compares_studies_plans_and_configurations(store):
    folder, (cell, _), (other, _) = store
    for name, values in (("a.yaml", "[0.1, 0.3]"), ("b.yaml", "[0.1, 0.3, 0.5]")):
        (folder / name).write_text(f"sweep:\n  mask.sparsity: {values}\n")
    done = longact("diff", "a.yaml", "b.yaml", cwd=folder)
    assert done.stdout.splitlines() == ["mask.sparsity: 0.1, 0.3 -> 0.1, 0.3, 0.5"]
    plans = folder / "runs" / "plans"
    for name, cells in (("one", [cell]), ("two", [cell, other])):
        rows = [{"digest": found.digest, "label": found.label} for found in cells]
        write_json(plans / f"{name}.json", {"study": "s", "digest": "d", "cells": rows})
    done = longact("diff", "runs/plans/one.json", "runs/plans/two.json", cwd=folder)
    assert done.stdout.splitlines()[0] == "mask.sparsity: 0.3 -> 0.3, 0.5"
    assert "1 cells in both, 0 only in A, 1 only in B" in done.stderr
    (folder / "shown.json").write_text(cell.config.model_dump_json())
    done = longact("diff", "shown.json", "0.5", cwd=folder)
    assert "mask.sparsity: 0.3 -> 0.5" in done.stdout.splitlines()


def test_diff_of_two_study_files_sees_their_models(store):
    folder, *_ = store
    for name in ("micro", "qwen3-4b"):
        (folder / f"{name}.yaml").write_text(f"model: {name}\nsweep: {{seed: 0}}\n")
    lines = longact("diff", "micro.yaml", "qwen3-4b.yaml", cwd=folder).stdout.splitlines()
    assert "model.name: micro -> qwen3-4b" in lines


def test_diff_takes_the_name_of_a_study(store):
    folder, (cell, _), (other, _) = store
    for study, cells in (("one", (cell,)), ("salient", (cell, other))):
        write_plan(Plan(study, cells), folder / "runs", command="longact ablate")
    done = longact("diff", "one", "salient", cwd=folder)
    assert done.stdout.splitlines()[0] == "mask.sparsity: 0.3 -> 0.3, 0.5"
    assert "1 cells in both, 0 only in A, 1 only in B" in done.stderr


@pytest.mark.parametrize("content", ["[1", "[1]", '{"a": 1}'])
def test_diff_of_a_file_that_is_no_configuration_is_one_line(store, content):
    folder, *_ = store
    (folder / "x.json").write_text(content)
    done = longact("diff", "x.json", "0.5", cwd=folder)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_store_whose_cells_lead_elsewhere_is_refused(store, tmp_path):
    folder, (_, directory), _ = store
    elsewhere = tmp_path / "elsewhere"
    directory.path.rename(elsewhere)
    directory.path.symlink_to(elsewhere)
    done = longact("status", cwd=folder)
    assert done.returncode == 2
    assert "is a link to" in done.stderr


def test_a_store_with_a_cell_of_another_version_is_still_of_use(store):
    folder, (cell, directory), (other, _) = store
    data = json.loads((directory.path / "cell.json").read_text())
    data["config"]["mask"]["old_key"] = 1
    write_json(directory.path / "cell.json", data)
    assert longact("status", cwd=folder).stdout.splitlines()[-1] == "2 cells: 2 done"
    assert longact("logs", cell.digest[:8], cwd=folder).returncode == 0
    assert longact("train", "seed=4", "--dry-run", cwd=folder).returncode == 0
    assert longact("cancel", cell.digest[:8], cwd=folder).returncode == 0
    done = longact("diff", cell.digest[:8], other.digest[:8], cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "another version of longact ('mask.old_key' is not a setting" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("content", ["[]", "{}", '"x"', "null"])
def test_status_leaves_out_what_is_no_cell(store, content):
    folder, (_, directory), _ = store
    (directory.path / "cell.json").write_text(content)
    assert longact("status", cwd=folder).stdout.splitlines()[-1] == "1 cells: 1 done"


def test_a_cell_whose_process_is_starting_is_running_and_not_interrupted(tmp_path):
    cell, directory = make(tmp_path / "runs", state="pending")
    plan = Plan("s", (cell,))
    write_plan(plan, tmp_path / "runs", command="longact ablate")
    write_status(directory, Status("running", 1, started=time.time()))
    with holding_plan(tmp_path / "runs", plan.digest):
        assert current_status(directory).state == "running"
        write_status(directory, Status("running", 1, started=time.time() - 3600))
        assert current_status(directory).state == "interrupted"
    write_status(directory, Status("running", 1, started=time.time()))
    assert current_status(directory).state == "interrupted"


def test_cells_of_a_folder_that_cannot_be_written_can_be_looked_at(store, monkeypatch):
    folder, (cell, directory), _ = store
    directory.stdout.write_text("one\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    for command in (["status"], ["logs", cell.digest[:8]]):
        assert CliRunner().invoke(app, command).exit_code == 0
    assert CliRunner().invoke(app, ["sync"]).exit_code == 2


def test_status_tells_cells_of_one_name_apart_by_their_settings(store):
    folder, (cell, _), _ = store
    make(folder / "runs", "mask.sparsity=0.3", "mask.refresh_every=4")
    shown = longact("status", cwd=folder).stdout
    assert "train micro dapo salient 0.3 seed 0 mask.refresh_every=1" in shown
    assert "train micro dapo salient 0.3 seed 0 mask.refresh_every=4" in shown
    assert "train micro dapo salient 0.5 seed 0  " in shown
    found = longact("logs", "0.3 mask.refresh_every=1", cwd=folder)
    assert found.stderr.startswith(cell.digest[:12])


def test_sync_of_a_folder_without_cells_is_one_line(tmp_path):
    done = longact("sync", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["cancelled", "slurm"])
def test_no_folder_of_a_store_may_lead_elsewhere(store, name, tmp_path):
    folder, *_ = store
    (tmp_path / "elsewhere").mkdir()
    (folder / "runs" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link to"):
        check_runs_dir(folder / "runs")
