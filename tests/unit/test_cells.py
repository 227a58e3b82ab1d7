import subprocess
import sys
import textwrap

import pytest

from longact_cli.cells import (
    CellDir,
    Status,
    cell_dir,
    create,
    is_done,
    list_cells,
    mark_done,
    read_cell,
    read_results,
    read_status,
    write_results,
    write_status,
)
from longact_cli.config.compose import compose, parse
from longact_cli.errors import CellFailedError, CellHeldError
from longact_cli.files import read_json, write_json
from longact_cli.holding import hold, is_held
from longact_cli.plan import train_cell
from longact_cli.results import EvalResult


@pytest.fixture
def cell():
    return train_cell(compose(parse([])), lambda _model: "weights")


@pytest.fixture
def directory(tmp_path, cell):
    found = cell_dir(tmp_path, cell.digest)
    create(found, cell)
    return found


def test_a_cell_reads_back_as_it_was_written(directory, cell):
    assert read_cell(directory) == cell
    assert read_status(directory) == Status("pending")
    assert list_cells(directory.path.parents[1]) == (directory,)


def test_creating_twice_keeps_the_status(directory, cell):
    write_status(directory, Status("failed", attempt=2, error="x"))
    create(directory, cell)
    assert read_status(directory) == Status("failed", attempt=2, error="x")


def test_a_directory_of_another_cell_is_refused(directory):
    other = train_cell(compose(parse(["seed=5"])), lambda _model: "weights")
    with pytest.raises(CellFailedError, match="move that folder away"):
        create(directory, other)


def test_done_means_every_file_is_there_and_unchanged(directory):
    directory.metrics.write_text('{"step": 1}\n')
    directory.model.mkdir()
    (directory.model / "model.safetensors").write_bytes(b"weights")
    assert not is_done(directory)
    mark_done(directory)
    assert is_done(directory)
    (directory.model / "model.safetensors").write_bytes(b"weighty")
    assert not is_done(directory)


def test_a_done_status_without_its_files_is_pending_again_and_says_why(directory):
    write_status(directory, Status("done", attempt=1))
    assert read_status(directory) == Status(
        "pending", attempt=1, error="run again: DONE is missing"
    )
    directory.metrics.write_text('{"step": 1}\n')
    mark_done(directory)
    directory.metrics.write_text('{"st')
    assert read_status(directory).error == "run again: metrics.jsonl is damaged"
    directory.metrics.unlink()
    assert read_status(directory).error == "run again: metrics.jsonl is missing"
    directory.done.write_text("")
    assert read_status(directory).error == "run again: DONE is damaged"


@pytest.mark.parametrize("text", ["", '{"state": "do', "[]", '{"state": "flying"}'])
def test_a_status_that_cannot_be_read_is_pending(directory, text):
    (directory.path / "status.json").write_text(text)
    assert read_status(directory) == Status("pending")


def test_only_one_process_holds_a_cell_and_death_frees_it(directory):
    script = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from longact_cli.cells import CellDir
        from longact_cli.holding import hold
        with hold(CellDir(Path({str(directory.path)!r}))):
            print("held", flush=True)
            time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert is_held(directory)
        with pytest.raises(CellHeldError, match="being run by another process"), hold(directory):
            pass
        process.kill()
    assert not is_held(directory)
    with hold(directory):
        pass


def test_results_round_trip(directory):
    rows = (EvalResult("ruler", "vt", "official", 512, "string_match_all", None, 0, 3, 0),)
    write_results(directory, rows)
    assert read_results(directory) == rows


def test_a_folder_without_description_is_not_a_cell(tmp_path):
    with pytest.raises(CellFailedError, match="is not a cell"):
        read_cell(CellDir(tmp_path))


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda data: data["config"]["mask"].update(old_key=1), "'mask.old_key' is not a setting"),
        (lambda data: data.pop("stage"), "'stage'"),
        (lambda data: data["config"].pop("seed"), "seed is not set"),
    ],
)
def test_a_cell_of_another_version_is_one_line(directory, cell, edit, named):
    create(directory, cell)
    data = read_json(directory.path / "cell.json")
    edit(data)
    write_json(directory.path / "cell.json", data)
    with pytest.raises(CellFailedError, match="of another version of longact") as caught:
        read_cell(directory)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_status_with_more_than_this_version_knows_keeps_what_it_knows(directory):
    write_json(directory.path / "status.json", {"state": "failed", "attempt": 2, "mood": "bad"})
    assert read_status(directory) == Status("failed", attempt=2)
