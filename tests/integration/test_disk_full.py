"""A disk that fills up while a cell trains: one clear line, and nothing but room is needed."""

import os
import shutil
import subprocess
import sys

import pytest

TRAIN = [
    "train", "--sparsity", "0.3", "--steps", "6", "algorithm.checkpoint_every=2",
    "algorithm.prompts_per_step=2", "algorithm.group_size=4", "algorithm.micro_batch_size=8",
    "data.context_lengths=[256]",
]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 5 MB: room for the database and one checkpoint, not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def train(folder):
    return subprocess.run(
        [sys.executable, "-m", "longact_cli", *TRAIN],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip


def weights(folder):
    (path,) = folder.glob("runs/cells/*/model/model.safetensors")
    return path.read_bytes()


def test_a_full_disk_is_one_clear_line_and_the_same_command_goes_on(small_disk, tmp_path):
    stopped = train(small_disk)
    assert stopped.returncode == 1
    assert "is full" in stopped.stderr
    assert "make room and run the same command again" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not list(small_disk.glob("runs/cells/*/DONE"))
    assert list(small_disk.glob("runs/cells/*/checkpoints/checkpoint-2/COMPLETE"))
    remount = ["mount", "-o", "remount,size=40m", str(small_disk)]
    subprocess.run(remount, check=True)
    again = train(small_disk)
    assert again.returncode == 0, again.stderr
    (journal,) = small_disk.glob("runs/cells/*/metrics.jsonl")
    steps = [line for line in journal.read_text().splitlines() if '"grad_norm"' in line]
    assert len(steps) == 6
    whole = tmp_path / "whole"
    whole.mkdir()
    assert train(whole).returncode == 0
    assert weights(small_disk) == weights(whole)
