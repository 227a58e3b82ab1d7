"""Which process's error the user sees, and that nothing outlives the cell."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from longact_cli.cells import CellDir, cell_dir, create
from longact_cli.config.compose import compose, parse
from longact_cli.controls import plan_train
from longact_cli.errors import ConfigError
from longact_cli.execution import child, ranks
from longact_cli.execution.ranks import RankFailure, first_failure, read_failures
from longact_cli.execution.resources import check_shares
from longact_cli.files import read_json, write_json
from longact_cli.plan import train_cell


class TrainedStandIn(NamedTuple):
    steps: int
    tokens: int


FIRST = RankFailure(1, 10.0, "mask.file is x; there is no such file", 2)
LATER = RankFailure(0, 10.4, "rank 0: RuntimeError: Connection reset by peer", 1)


def test_the_error_of_the_process_that_failed_first_is_the_one_reported(tmp_path):
    directory = CellDir(tmp_path)
    for failure in (LATER, FIRST):
        write_json(tmp_path / "ranks" / f"rank-{failure.rank}.json", failure._asdict())
    error = first_failure(read_failures(directory), {0: -signal.SIGABRT, 1: 2})
    assert (str(error), error.exit_code) == (FIRST.message, 2)


def test_a_killed_process_is_named_with_its_signal():
    error = first_failure((LATER,), {1: -signal.SIGKILL})
    assert str(error).startswith("rank 1 died of SIGKILL (often a lack of memory); see stderr.log")
    assert error.exit_code == 1


def test_a_process_that_said_nothing_is_named_with_its_exit_code():
    assert "rank 3 ended with exit code 9" in str(first_failure((), {3: 9}))
    assert "rank 0 died of SIGABRT" in str(first_failure((), {0: -signal.SIGABRT}))


LEASHED = """
import os, sys, time
from longact_cli.execution.leash import Leashed

with open(sys.argv[1], "ab") as log:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    process = Leashed([sys.executable, "-c", code], log=log, environment=dict(os.environ))
print(process.pid, flush=True)
time.sleep(60)
"""


def test_a_command_on_a_leash_ends_with_a_process_that_is_killed(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", LEASHED, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        group = int(owner.stdout.readline())
        wait_for(lambda: log.read_text().strip())
        owner.kill()
    wait_for(lambda: not lives(group) and not lives(int(log.read_text())))


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(reached, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            pytest.fail("not reached in time")
        time.sleep(0.05)


def test_a_cluster_job_has_the_gpus_of_its_cell():
    config = compose(parse(["executor=slurm", "parallel.processes=2", "parallel.sharding=ddp"]))
    plan = plan_train("s", config, revision=lambda _source: "w")
    with pytest.raises(ConfigError, match=r"executor.gpus_per_cell is 1.*executor.gpus_per_cell=2"):
        check_shares(plan, config.executor)
    check_shares(plan, config.executor.model_copy(update={"gpus_per_cell": 2}))
    check_shares(plan, config.executor.model_copy(update={"gpus_per_cell": 0}))


def test_the_peak_memory_of_a_cell_is_that_of_its_fullest_process(tmp_path, monkeypatch):
    cell = train_cell(compose(parse([])), lambda _model: "w")
    directory = cell_dir(tmp_path, cell.digest)
    create(directory, cell)
    trained = TrainedStandIn(steps=2, tokens=3)
    parts = {
        "longact_cli.training.train": {
            "StartPoint": lambda *_: None,
            "train_share": lambda *_, **__: trained,
        },
        "accelerate.utils": {"gather_object": lambda own: [*own, 1 << 60]},
    }
    for name, content in parts.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))
    monkeypatch.setattr(ranks, "import_for", lambda _cell: None)
    monkeypatch.setattr(ranks, "_leave", lambda: None)
    ranks.run_share(directory, checkpoint="", resume=None, first=True)
    assert read_json(directory.provenance)["peak_memory_bytes"] == 1 << 60
    child.note_memory(directory)
    assert read_json(directory.provenance)["peak_memory_bytes"] == 1 << 60


def test_the_peak_memory_of_a_cell_of_one_process_is_its_own(tmp_path):
    directory = CellDir(tmp_path)
    child.note_memory(directory)
    assert read_json(directory.provenance)["peak_memory_bytes"] > 1 << 20
