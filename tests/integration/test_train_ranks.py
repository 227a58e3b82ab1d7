"""A cell trained by two processes: what it shares with one process, and that it resumes exactly."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from longact_cli.cells import list_cells, read_status
from longact_cli.config.compose import compose, parse
from longact_cli.files import read_json, read_lines
from longact_cli.training.checkpoints import is_complete
from processes import processes, suspended

from . import ranks_worker
from .training_helpers import with_many_end_tokens

TESTS = Path(__file__).parents[1]
SHARDINGS = ranks_worker.SHARDINGS
CELL = [
    "algorithm.steps=8", "algorithm.prompts_per_step=2", "algorithm.group_size=4",
    "algorithm.micro_batch_size=4", "algorithm.checkpoint_every=2", "data.context_lengths=[256]",
    "parallel.processes=2",
]  # fmt: skip
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
}


@pytest.fixture(scope="module")
def trained(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cells of every sharding, each in a folder of its name; `one` is a single process."""
    folder = tmp_path_factory.mktemp("ranks")
    checkpoint = with_many_end_tokens(tiny_checkpoint, folder / "checkpoint")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
        *(f"--master-port={port}", ranks_worker.__file__),
        *(str(checkpoint), str(folder), compose(parse(CELL)).model_dump_json()),
    ]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]
    ranks_worker.compared(checkpoint, "one", folder)
    return folder


def metric(folder: Path, name: str) -> list[float]:
    rows = read_lines(folder / "metrics.jsonl")
    return [row["value"] for row in rows if row["name"] == name]


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("name", ranks_worker.COMPARED)
def test_two_processes_have_the_masks_and_the_weights_of_one(
    name: str, sharding: str, trained: Path
) -> None:
    expected = load_file(trained / "one" / name / "rank0.safetensors")
    start = load_file(trained / "checkpoint" / "model.safetensors")
    masks = [key for key in expected if "/mask/" in key]
    assert len(masks) == ranks_worker.STEPS * 8
    for rank in (0, 1):
        found = load_file(trained / sharding / name / f"rank{rank}.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in masks)
        for key in expected.keys() - masks:
            assert not torch.equal(expected[key], start[key.split("/weights/")[1]])
            # AdamW's first steps have the size of the learning rate wherever the gradient is not
            # 0: where it is almost 0, rounding decides.
            far = (found[key] - expected[key]).abs() > 0.01 * ranks_worker.SIZES["learning_rate"]
            assert far.float().mean() < 2e-3, key
    # TRL takes the mean of its micro-batches' means; by tokens the metrics are the step's own.
    own = ("entropy", "kl") if name == "by-tokens" else ()
    for metric_name in ("loss", "grad_norm", *own):
        found, expected = (metric(trained / run / name, metric_name) for run in (sharding, "one"))
        assert len(expected) == ranks_worker.STEPS
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7), metric_name


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_prompts_are_shared_and_scores_stay_precise(sharding: str, trained: Path) -> None:
    runs = ["by-tokens", "whole"] if sharding == "fsdp2" else ["by-tokens"]  # whole: in bfloat16
    for run in runs:
        for rank in (0, 1):
            dtypes = read_json(trained / sharding / run / f"passes{rank}.json")
            assert len(dtypes) >= 2 * ranks_worker.STEPS
            assert set(dtypes) == {"torch.float32"}
    assert read_json(trained / sharding / "grpo" / "passes0.json") == []


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_a_masked_row_does_not_move(sharding: str, trained: Path) -> None:
    start = load_file(trained / "checkpoint" / "model.safetensors")
    found = load_file(trained / sharding / "dapo" / "rank1.safetensors")
    for key in (key for key in found if key.startswith("0/mask/")):
        name, rows = key.removeprefix("0/mask/"), found[key]
        moved = (found[f"0/weights/{name}"] - start[name]).abs().amax(dim=1)
        assert moved[~rows].max() == 0
        assert (moved[rows] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_refill_draws_the_prompts_and_keeps_the_groups_of_one_process(
    sharding: str, trained: Path
) -> None:
    one, two = trained / "one" / "dapo", trained / sharding / "dapo"
    for name in ("sampling/generated_groups", "sampling/groups_out_of_loss", "reward", "accuracy"):
        assert metric(two, name) == pytest.approx(metric(one, name)), name
    assert max(metric(one, "sampling/generated_groups")) > 4
    position = "checkpoints/checkpoint-2/prompts.json"
    assert read_json(two / position) == read_json(one / position)
    tables = [
        pd.read_parquet(folder / "completions" / "completions_00000.parquet")
        for folder in (one, two)
    ]
    assert set(tables[0]["sample_id"]) == set(tables[1]["sample_id"])


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_covariance_is_pooled_over_the_processes(sharding: str, trained: Path) -> None:
    name = "covariance/selected_fraction"
    expected = metric(trained / "one" / "clip-cov", name)
    assert 0 < expected[0] < 1
    assert metric(trained / sharding / "clip-cov", name) == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_an_interrupted_run_of_two_processes_ends_with_the_weights_of_a_whole_one(
    sharding: str, trained: Path
) -> None:
    whole, cut = trained / sharding / "whole", trained / sharding / "cut"
    sharded = (whole / "checkpoints" / "checkpoint-2" / "pytorch_model_fsdp_0").is_dir()
    assert sharded == (sharding == "fsdp2")
    assert is_complete(whole / "checkpoints" / "checkpoint-2")
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (cut, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(weight.dtype == torch.float32 for weight in ours.values())
    for name in ("reward", "loss", "sampling/generated_groups", "mask/masked_drift_norm"):
        assert metric(cut, name) == metric(whole, name)


def longact(runs: Path, *settings: str) -> subprocess.Popen[str]:
    options = ("--runs-dir", str(runs), *CELL, *settings)
    command = [sys.executable, "-m", "longact_cli", "train", *options]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(reached, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.02)


@pytest.mark.slow
def test_all_processes_do_what_the_first_one_sees_of_a_stop(trained: Path) -> None:
    """The marker is there for one of the two alone, as if it appeared between their looks."""
    told = [read_json(trained / "stops" / f"rank{rank}.json") for rank in (0, 1)]
    assert told == [{"seen by rank 0": True, "seen by rank 1": False}] * 2


def last_step(folder: Path) -> int:
    return max((row["step"] for row in read_lines(folder / "metrics.jsonl")), default=0)


@pytest.mark.slow
def test_a_cell_that_was_killed_and_then_told_to_stop_ends_as_if_undisturbed(
    trained: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with longact(runs, "executor.retries=0") as first:
        wait_for(lambda: list(runs.glob("cells/*/checkpoints/checkpoint-2/COMPLETE")))
        (directory,) = list_cells(runs)
        name = directory.path.name
        with suspended(processes(" _rank ", name)) as ranks:
            assert len(ranks) == 2
            (cell_process,) = processes(" _cell ", name)
            os.kill(cell_process, signal.SIGKILL)
        wait_for(lambda: not processes(" _rank ", name), seconds=20)
        printed = first.communicate()[0]
    assert first.returncode == 1, printed
    assert read_status(directory).state == "failed"

    with longact(runs, "algorithm.checkpoint_every=8") as second:
        wait_for(lambda: last_step(directory.path) > 2 and processes(" _rank ", name))
        with suspended(processes(" _rank ", name)) as ranks:
            for rank in ranks:
                # As a cluster does, which signals every process of a job.
                os.kill(rank, signal.SIGTERM)
            second.terminate()
            wait_for((directory.path / "STOP").exists)
        printed = second.communicate()[0]
    assert second.returncode == 130, printed
    status = read_status(directory)
    assert status.state == "interrupted"
    assert status.error == f"stopped with a checkpoint at step {last_step(directory.path)} of 8"
    assert 2 < last_step(directory.path) < 8
    assert is_complete(directory.path / "checkpoints" / f"checkpoint-{last_step(directory.path)}")

    with longact(runs) as third:
        printed = third.communicate()[0]
    assert third.returncode == 0, printed
    assert read_json(directory.provenance)["steps"] == 8
    ours, theirs = (
        load_file(folder / "model" / "model.safetensors")
        for folder in (directory.path, trained / "undisturbed")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for name in ("reward", "loss", "grad_norm"):
        assert metric(directory.path, name) == metric(trained / "undisturbed", name)
