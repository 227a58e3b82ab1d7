"""How long the command line takes to answer, beside TRL's own; how long a cell imports."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

RUNS = 7
BIN = Path(sys.executable).parent
SWEEP = (
    "ablate --sparsity 0.1,0.3,0.5 --algo dapo,grpo --mask salient,random,lowest "
    "--seeds 5 --dry-run"
)

CELL_IMPORTS = """
import importlib, sys
from longact_cli.config.compose import compose
from longact_cli.execution.imports import import_for, modules_of
from longact_cli.plan import train_cell
cell = train_cell(compose(()), lambda _: "")
if sys.argv[1] == "quick":
    import_for(cell)
else:
    for module in modules_of(cell):
        importlib.import_module(module)
"""


TRAINING = (
    "train --study start --steps 2 algorithm.prompts_per_step=2 algorithm.group_size=4 "
    "algorithm.micro_batch_size=4 data.context_lengths=[512]"
)


class Parts(NamedTuple):
    """Seconds of a training: its steps; the rest of its cell; planning, MLflow and the command."""

    steps: float
    rest: float
    around: float


def training(folder):
    """Return where the seconds of a short training go."""
    whole = seconds([BIN / "longact", *TRAINING.split()], folder)
    (cell,) = (Path(folder) / "runs" / "cells").iterdir()
    status = json.loads((cell / "status.json").read_text())
    steps = json.loads((cell / "provenance.json").read_text())["seconds"]
    inside = status["finished"] - status["started"]
    return Parts(steps, inside - steps, whole - inside)


def seconds(command, folder):
    """Return the wall seconds of one command that must succeed."""
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def spread(values):
    """Return `median (min-max)`."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def run():
    """Time `--help` against `trl --help` in turn, the planning of a large sweep, and imports."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs, plans, quick, plain = [], [], [], [], []
        for _ in range(RUNS + 1):
            ours.append(seconds([BIN / "longact", "--help"], folder))
            theirs.append(seconds([BIN / "trl", "--help"], folder))
            plans.append(seconds([BIN / "longact", *SWEEP.split()], folder))
            quick.append(seconds([sys.executable, "-c", CELL_IMPORTS, "quick"], folder))
            plain.append(seconds([sys.executable, "-c", CELL_IMPORTS, "plain"], folder))
    # The first round warms the file cache and is not counted.
    ratios = [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]
    print(f"longact --help          {spread(ours[1:])} s")
    print(f"trl --help              {spread(theirs[1:])} s")
    print(f"ratio, pair by pair     {spread(ratios)}")
    print(f"dry run of 201 cells    {spread(plans[1:])} s")
    ratios = [a / b for a, b in zip(quick[1:], plain[1:], strict=True)]
    print(f"imports of a cell       {spread(quick[1:])} s")
    print(f"one after another       {spread(plain[1:])} s")
    print(f"ratio, pair by pair     {spread(ratios)}")
    parts = []
    for _ in range(RUNS + 1):
        with tempfile.TemporaryDirectory() as folder:
            parts.append(training(folder))
    print(f"training: its 2 steps   {spread([part.steps for part in parts[1:]])} s")
    print(f"rest of its cell        {spread([part.rest for part in parts[1:]])} s")
    print(f"command around it       {spread([part.around for part in parts[1:]])} s")
