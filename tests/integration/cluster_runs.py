"""One short training of the micro model, as a command, wherever it is run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from chaos.harness import Sweep
from processes import processes

STEPS = 40
TRAIN = [
    "train", "--sparsity", "0.3", "--steps", str(STEPS), "--study", "cluster",
    "algorithm.checkpoint_every=2", "algorithm.prompts_per_step=2", "algorithm.group_size=4",
    "algorithm.micro_batch_size=8", "data.context_lengths=[256]",
]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**os.environ, **quiet, **more}


def start(folder: Path, *overrides: str, env: dict[str, str]) -> "subprocess.Popen[str]":
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "longact_cli", *TRAIN, *overrides],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def whole_checkpoints(folder: Path) -> int:
    """Return the step of the newest whole checkpoint, 0 where there is none."""
    found = folder.glob("runs/cells/*/checkpoints/*/COMPLETE")
    return max((int(path.parent.name.removeprefix("checkpoint-")) for path in found), default=0)


def obstruct_training(sweep: Sweep) -> Path:
    """Put a file where the training of a sweep needs a folder; return it."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(
        [sys.executable, *sweep.command, "--dry-run", "--json"],
        cwd=sweep.folder,
        env=sweep.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in listed.stdout.splitlines()]
    (digest,) = [row["digest"] for row in rows if row.get("stage") == "train"]
    obstacle = sweep.runs / "cells" / digest[:12] / "checkpoints"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("a file where a folder must be")
    return obstacle


def training_processes(folder: Path) -> list[int]:
    (path,) = folder.glob("runs/cells/*")
    return processes(" _cell ", path.name)


def wait_until(ready, *, seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def weights(folder: Path) -> bytes:
    (path,) = folder.glob("runs/cells/*/model/model.safetensors")
    return path.read_bytes()
