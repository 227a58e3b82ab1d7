"""How far rows moved between two checkpoints, and where runs are found in a store."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longact_cli.analysis import sources
from longact_cli.analysis.changes import row_change, row_moves
from longact_cli.cells import cell_dir, create, mark_done
from longact_cli.config.compose import compose, parse
from longact_cli.errors import ConfigError, NotFoundError
from longact_cli.files import write_json
from longact_cli.plan import train_cell
from longact_cli.training.checkpoints import mark_complete


def test_rows_move_by_the_norm_of_the_difference_also_relative_to_the_norm_before() -> None:
    before = torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0], [1.0, 1.0]])
    after = torch.tensor([[3.0, 9.0], [0.0, 2.0], [0.0, 0.5], [0.0, 1.0]])
    found = row_moves(before, after)
    assert found.absolute.tolist() == [5.0, 0.0, 0.5, 1.0]
    # The third row was zero: its absolute change.
    assert found.relative.tolist() == pytest.approx([1.0, 0.0, 0.5, 0.5**0.5])


@pytest.fixture
def pair(tiny_checkpoint: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint and a copy in which row 5 of one query matrix is doubled."""
    after = tmp_path / "after"
    shutil.copytree(tiny_checkpoint, after)
    weights = load_file(after / "model.safetensors")
    weights["model.layers.1.self_attn.q_proj.weight"][5] *= 2.0
    save_file(weights, after / "model.safetensors", metadata={"format": "pt"})
    return tiny_checkpoint, after


def test_only_the_row_that_moved_has_changed(pair: tuple[Path, Path]) -> None:
    found = row_change(sources.change_between(*pair))
    assert found.label == "checkpoint to after"
    moved = {
        (name, int(row))
        for name, values in found.by_measure["relative"].items()
        for row in values.nonzero().flatten()
    }
    name = "model.layers.1.self_attn.q_proj.weight"
    assert moved == {(name, 5)}
    assert float(found.by_measure["relative"][name][5]) == pytest.approx(1.0)


def test_two_equal_checkpoints_have_nothing_to_compare(tiny_checkpoint: Path) -> None:
    change = sources.change_between(tiny_checkpoint, tiny_checkpoint)
    with pytest.raises(ConfigError, match="have the same query and key weights"):
        row_change(change)


def test_a_folder_of_checkpoints_is_taken_step_by_step(tmp_path: Path) -> None:
    for step in (10, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
    names = [Path(path).name for path in sources.expand_folder(str(tmp_path))]
    assert names == ["checkpoint-2", "checkpoint-10"]
    assert sources.expand_folder("micro") == ("micro",)


def test_models_of_one_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    folders = [tmp_path / run / "model" for run in ("one", "two")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    models = [sources.folder_model(folder) for folder in folders]
    assert [s.label for s in sources.label_models(models)] == ["one/model", "two/model"]
    with pytest.raises(ConfigError, match="'one/model' twice"):
        sources.label_models([models[0], models[0]])


def test_a_store_without_the_run_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="see longact status"):
        sources.cell_steps(tmp_path, "abc")
    with pytest.raises(NotFoundError, match="longact ablate --study mine"):
        sources.study_changes(tmp_path, "mine")


def finished_run(runs: Path, *, strategy: str = "dense", study: str = "mine") -> str:
    """A train cell that is done, with checkpoints at steps 2 and 4 of 6, and its plan."""
    settings = [f"mask={strategy}", "algorithm.steps=6"]
    cell = train_cell(compose(parse(settings)), lambda model: "weights")
    directory = cell_dir(runs, cell.digest)
    create(directory, cell)
    for step in (4, 2, 6):
        checkpoint = directory.path / "checkpoints" / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "config.json").write_text("{}")
        mark_complete(checkpoint)
    (directory.path / "checkpoints" / "checkpoint-5").mkdir()  # torn
    directory.model.mkdir()
    (directory.model / "config.json").write_text("{}")
    mark_done(directory)
    plan = {"study": study, "cells": [{"digest": cell.digest, "label": cell.label}]}
    write_json(runs / "plans" / f"{cell.digest[:6]}.json", plan)
    return cell.digest


def test_the_steps_of_a_run_are_its_base_its_whole_checkpoints_and_its_end(tmp_path: Path) -> None:
    digest = finished_run(tmp_path)
    steps, change = sources.cell_steps(tmp_path, digest[:5])
    assert [step.label for step in steps] == ["micro", "step 2", "step 4", "step 6"]
    assert steps[0].model.path is None
    assert Path(steps[-1].model.path or "").name == "model"
    assert (change.before, change.after) == (steps[0].model, steps[-1].model)


def test_a_study_gives_what_its_dense_runs_changed_and_no_other(tmp_path: Path) -> None:
    dense = finished_run(tmp_path)
    finished_run(tmp_path, strategy="salient")
    (change,) = sources.study_changes(tmp_path, "mine")
    assert change.label == f"dense seed 0 ({dense[:12]})"
    assert sources.one_base([change]).name == "micro"
    with pytest.raises(NotFoundError):
        sources.study_changes(tmp_path, "other")


def test_a_run_that_is_not_finished_has_no_change(tmp_path: Path) -> None:
    digest = finished_run(tmp_path)
    cell_dir(tmp_path, digest).done.unlink()
    with pytest.raises(ConfigError, match="must be a training run that is done"):
        sources.cell_steps(tmp_path, digest)
