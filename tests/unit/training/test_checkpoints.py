from pathlib import Path

import pytest

from longact_cli.training.checkpoints import (
    MARKER,
    discard_newer,
    is_complete,
    latest_checkpoint,
    list_checkpoints,
    mark_complete,
)


def checkpoint(folder: Path, step: int, *, marked: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "sub").mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights" * 100)
    (path / "sub" / "state.json").write_text("{}")
    if marked:
        mark_complete(path)
    return path


def test_the_newest_whole_checkpoint_wins_by_number_not_by_name(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 11, marked=False)
    (tmp_path / "checkpoint-x").mkdir()
    assert latest_checkpoint(tmp_path) == newest
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "checkpoint-11",
        "checkpoint-10",
        "checkpoint-9",
    ]


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "no marker", "torn marker"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    older, newer = checkpoint(tmp_path, 2), checkpoint(tmp_path, 4)
    weights = newer / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "changed":
        weights.write_bytes(b"Weights" + weights.read_bytes()[7:])
    elif damage == "missing":
        (newer / "sub" / "state.json").unlink()
    elif damage == "no marker":
        (newer / MARKER).unlink()
    else:
        (newer / MARKER).write_text((newer / MARKER).read_text()[:20])
    assert not is_complete(newer)
    assert latest_checkpoint(tmp_path) == older


def test_without_a_whole_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "absent") is None
    checkpoint(tmp_path, 2, marked=False)
    assert latest_checkpoint(tmp_path) is None


def test_torn_checkpoints_after_the_chosen_one_are_removed(tmp_path: Path) -> None:
    kept = checkpoint(tmp_path, 4)
    checkpoint(tmp_path, 2)
    checkpoint(tmp_path, 6, marked=False)
    discard_newer(tmp_path, kept)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-2"]
    discard_newer(tmp_path, None)
    assert list_checkpoints(tmp_path) == ()
