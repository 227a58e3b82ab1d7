"""`longact cancel` on stores whose cells are made up."""

import json

import pytest
from typer.testing import CliRunner

from longact_cli.cells import cell_dir
from longact_cli.cli.app import app
from longact_cli.execution.cancelled import CellsCancelled
from longact_cli.files import write_json
from synthetic_store import Setting, pair, write_cell


@pytest.fixture
def store(tmp_path):
    """A study of a finished training and a waiting evaluation, and one of another name."""
    train, evaluation = pair(Setting("salient", 0.3, 0, 0.5))
    write_cell(tmp_path, train, 0.5)
    write_cell(tmp_path, evaluation, 0.5, state="pending")
    cells = [{"digest": cell.digest, "label": cell.label} for cell in (train, evaluation)]
    plan = {"study": "mine", "digest": "d", "cells": cells}
    write_json(tmp_path / "plans" / "d.json", plan)
    return tmp_path, train, evaluation


def run(store, *arguments):
    return CliRunner().invoke(app, ["cancel", *arguments, "--runs-dir", str(store[0])])


def test_a_study_is_cancelled_but_for_what_has_ended(store):
    result = run(store, "--study", "mine", "--json")
    assert result.exit_code == 0
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(item["digest"], item["outcome"]) for item in found] == [
        (store[2].digest, "not started")
    ]
    name = cell_dir(store[0], store[2].digest).path.name
    assert CellsCancelled(store[0]).names() == {name}


def test_one_cell_is_named_by_the_start_of_its_digest_or_by_words(store):
    for words in (store[2].digest[:8], "eval salient"):
        result = run(store, words)
        assert result.exit_code == 0
        assert store[2].digest[:12] in result.stdout


def test_a_cell_whose_process_is_gone_is_not_running(store):
    write_cell(store[0], store[2], 0.5, state="running")
    assert run(store, store[2].digest).stdout.strip().endswith("not running")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "either CELL or --study NAME"),
        (["abcdef", "--study", "mine"], 2, "either CELL or --study NAME"),
        (["--study", "other"], 3, "the studies in"),
        (["ffffffff"], 3, "there is no cell 'ffffffff'"),
        (["salient 0.3"], 2, "names 2 cells"),
    ],
)
def test_what_cannot_be_cancelled_is_one_line(store, arguments, code, message):
    result = run(store, *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_finished_cell_is_nothing_to_cancel(store):
    result = run(store, store[1].digest)
    assert result.exit_code == 3
    assert "has ended" in result.stderr
