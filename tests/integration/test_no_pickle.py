"""Pickles that would run code, planted wherever files of a store, a model or a user are read."""

import os
import pickle  # noqa: TID251 - what is planted
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from typer.testing import CliRunner

from longact_cli.cli.app import app
from longact_cli.config.schema import ModelConfig
from longact_cli.errors import CellFailedError, ConfigError, PrerequisiteError
from longact_cli.masking.mask_file import load_mask
from longact_cli.models.loading import checkpoint_sha256, load_model
from longact_cli.training.checkpoint_pickles import without_code
from longact_cli.training.checkpoints import is_complete, mark_complete
from longact_cli.training.stored import StoredPrompts
from longact_cli.training.train import train_cell
from synthetic_store import Setting, write_study

from .training_helpers import cell

STEPS = {"steps": 4, "checkpoint_every": 2, "updates_per_rollout": 1, "share_prompt_prefix": False}


class Evil:
    """Leaves a file when it is unpickled."""

    def __init__(self, left: Path) -> None:
        self.left = left

    def __reduce__(self):
        return os.mkdir, (str(self.left),)


@pytest.fixture
def left(tmp_path: Path):
    """The folder that a pickle leaves when it runs; at the end it must not be there."""
    path = tmp_path / "code has run"
    yield path
    assert not path.exists()


def plant(path: Path, left: Path, *, form: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "torch":
        torch.save({"state": Evil(left)}, path)
    elif form == "numpy":
        with path.open("wb") as stream:
            np.savez(stream, rows=np.array([Evil(left)], dtype=object))
    else:
        path.write_bytes(pickle.dumps(Evil(left)))
    return path


@pytest.mark.parametrize("form", ["torch", "numpy", "pickle"])
def test_what_is_planted_runs_where_it_is_read_without_care(tmp_path: Path, form: str) -> None:
    ran = tmp_path / "ran"
    path = plant(tmp_path / "file", ran, form=form)
    if form == "torch":
        torch.load(path, weights_only=False)
    elif form == "numpy":
        np.load(path, allow_pickle=True)["rows"]
    else:
        pickle.loads(path.read_bytes())
    assert ran.is_dir()


@pytest.fixture(scope="module")
def half(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of four steps as a kill after the second leaves it."""
    out = tmp_path_factory.mktemp("half") / "cell"
    train_cell(cell(tiny_checkpoint, **STEPS), out=out)
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints" / "checkpoint-4")
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("optimizer.pt", "torch"),
        ("optimizer.pt", "pickle"),
        ("scheduler.pt", "torch"),
        ("rng_state.pth", "torch"),
    ],
)
def test_a_state_in_a_checkpoint_is_refused(
    half: Path, tiny_checkpoint: Path, tmp_path: Path, left: Path, name: str, form: str
) -> None:
    out = shutil.copytree(half, tmp_path / "cell")
    checkpoint = out / "checkpoints" / "checkpoint-2"
    plant(checkpoint / name, left, form=form)
    mark_complete(checkpoint)
    assert is_complete(checkpoint)
    with pytest.raises(CellFailedError, match=r"checkpoint-2 is no part .*\(it .*\); remove that"):
        train_cell(cell(tiny_checkpoint, **STEPS), out=out)


@pytest.mark.slow
def test_files_of_a_checkpoint_that_nobody_needs_are_not_read(
    half: Path, tiny_checkpoint: Path, tmp_path: Path, left: Path
) -> None:
    out = shutil.copytree(half, tmp_path / "cell")
    checkpoint = out / "checkpoints" / "checkpoint-2"
    for name in ("training_args.bin", "pytorch_model.bin", "more.pkl"):
        plant(checkpoint / name, left, form="torch")
    mark_complete(checkpoint)
    assert train_cell(cell(tiny_checkpoint, **STEPS), out=out).steps == 4


def sharded(folder: Path) -> Path:
    """A checkpoint as torch writes the shards of FSDP2, with an entry that is no tensor."""
    dcp.save({"weight": torch.ones(3), "rate": {"lr": 0.1}}, checkpoint_id=folder)
    return folder


def read_sharded(folder: Path) -> dict[str, object]:
    found = {"weight": torch.zeros(3), "rate": {"lr": 0.0}}
    with without_code(folder):
        dcp.load(found, checkpoint_id=folder)
    return found


def test_a_sharded_checkpoint_is_read(tmp_path: Path) -> None:
    found = read_sharded(sharded(tmp_path / "shards"))
    assert found["weight"].tolist() == [1.0, 1.0, 1.0]
    assert found["rate"] == {"lr": 0.1}


@pytest.mark.parametrize("name", [".metadata", "__0.metadata"])
def test_the_description_of_a_sharded_checkpoint_is_refused(
    tmp_path: Path, left: Path, name: str
) -> None:
    plant(sharded(tmp_path / "shards") / name, left, form="pickle")
    with pytest.raises(CellFailedError, match=r"it asks for posix\.mkdir"):
        read_sharded(tmp_path / "shards")


def test_an_entry_of_a_sharded_checkpoint_is_refused(tmp_path: Path, left: Path) -> None:
    dcp.save({"weight": torch.ones(3), "rate": Evil(left)}, checkpoint_id=tmp_path / "shards")
    with pytest.raises(CellFailedError, match=r"it asks for posix\.mkdir"):
        read_sharded(tmp_path / "shards")


@pytest.mark.parametrize("form", ["torch", "numpy", "pickle"])
@pytest.mark.parametrize("name", ["mask.safetensors", "mask.npz", "mask.npy", "mask.pt"])
def test_a_mask_file_is_refused(tmp_path: Path, left: Path, name: str, form: str) -> None:
    with pytest.raises(ConfigError, match="is not safetensors"):
        load_mask(plant(tmp_path / name, left, form=form))


def test_a_model_in_pickles_is_refused(tiny_checkpoint: Path, tmp_path: Path, left: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    plant(folder / "pytorch_model.bin", left, form="torch")
    with pytest.raises(PrerequisiteError, match=r"has no \.safetensors file"):
        checkpoint_sha256(str(folder))
    with pytest.raises(pickle.UnpicklingError):
        load_model(str(folder), model=ModelConfig(name="path", path=str(folder)))


@pytest.mark.parametrize("form", ["torch", "numpy", "pickle"])
@pytest.mark.parametrize(
    "name",
    ["a.jsonl", "a.json", "folder/a.jsonl", "folder/a.parquet", "folder/a.pkl", "folder/a.arrow"],
)
def test_prompts_of_a_user_are_refused(
    tiny_checkpoint: Path, tmp_path: Path, left: Path, name: str, form: str
) -> None:
    path = plant(tmp_path / name, left, form=form)
    given = path if path.parent == tmp_path else path.parent
    with pytest.raises(ConfigError, match=r"data\.path is .* cannot be read"):
        StoredPrompts(
            str(given),
            split="train",
            tokenizer=None,
            chat_template=False,
            seed=0,
            max_prompt_tokens=9,
        )


@pytest.mark.slow
def test_a_store_is_read_without_running_what_lies_in_it(tmp_path: Path, left: Path) -> None:
    runs = tmp_path / "runs"
    write_study(runs, f"sqlite:///{runs}/mlflow.db", "study", [Setting("salient", 0.3, 0, 0.7)])
    for which in ("artifacts/**/*.*", "cells/*/[!c]*", "plans/*", "cells/*/cell.json"):
        for path in [*runs.glob(which), runs / "plans" / "more.json", runs / "more.pkl"]:
            if not path.is_dir():
                plant(path, left, form="pickle")
        for command in ("status", "sync", "report"):
            done = CliRunner().invoke(app, [command, "--runs-dir", str(runs)])
            assert isinstance(done.exception, SystemExit | None), (which, command)
