"""Shares of a machine's GPUs: real child processes that say which ones they see."""

import os
import signal
import subprocess
import sys
import time

import pytest

from longact_cli.cells import cell_dir
from longact_cli.errors import PrerequisiteError
from longact_cli.execution import local
from longact_cli.execution.local import LocalExecutor, visible_gpus

# Says what it sees, then waits until it is told how to end.
CHILD = """
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[-1])
(folder / "seen.tmp").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
(folder / "seen.tmp").rename(folder / "seen")
while not (folder / "end").exists():
    time.sleep(0.01)
sys.exit(int((folder / "end").read_text()))
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts the cell of a number; its process is CHILD."""
    popen = subprocess.Popen
    handles = []

    def instead(command, **rest):
        return popen([sys.executable, "-S", "-c", CHILD, command[-1]], **rest)

    monkeypatch.setattr(local.subprocess, "Popen", instead)

    def begin(executor, number):
        directory = cell_dir(tmp_path, f"{number:012d}")
        directory.path.mkdir(parents=True)
        handle = executor.start(directory)
        handles.append(handle)
        return handle, directory.path

    yield begin
    for handle in handles:
        handle.kill()
        handle.process.wait()
        handle.lifeline.close()


def seen(path):
    deadline = time.monotonic() + 10
    while not (path / "seen").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return (path / "seen").read_text()


def ended(handle):
    deadline = time.monotonic() + 10
    while handle.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return handle.poll()


@pytest.mark.parametrize(
    "names",
    [
        ["0", "1", "2", "3"],
        ["GPU-5c1c7ff8", "GPU-0b2d1a44", "GPU-9d3e2f10", "GPU-77aa01bc"],
        ["MIG-1", "MIG-2", "MIG-3", "MIG-GPU-5c1c7ff8/4/0"],
    ],
)
def test_cells_that_run_side_by_side_see_disjoint_gpus(start, monkeypatch, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ", ".join(names))
    executor = LocalExecutor(8, 1, gpus_per_cell=1, gpus=visible_gpus())
    assert executor.slots == 4
    found = [seen(start(executor, number)[1]) for number in range(4)]
    assert found == names


def test_a_gpu_is_given_back_after_an_end_a_crash_and_a_kill(start, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    executor = LocalExecutor(8, 1, gpus_per_cell=1, gpus=visible_gpus())
    cells = [start(executor, number) for number in range(4)]
    assert [seen(path) for _, path in cells] == ["4", "5", "6", "7"]
    (cells[1][1] / "end").write_text("0")
    (cells[2][1] / "end").write_text("3")
    os.killpg(cells[3][0].process.pid, signal.SIGKILL)
    assert [ended(handle) for handle, _ in cells[1:]] == [0, 3, -9]
    assert [seen(start(executor, number)[1]) for number in (10, 11, 12)] == ["5", "6", "7"]


def test_cells_take_pairs_and_never_share_one(start, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    executor = LocalExecutor(8, 1, gpus_per_cell=2, gpus=visible_gpus())
    assert executor.slots == 2
    (first, path), (_, other) = start(executor, 0), start(executor, 1)
    assert (seen(path), seen(other)) == ("0,1", "2,3")
    (path / "end").write_text("0")
    ended(first)
    assert seen(start(executor, 2)[1]) == "0,1"


def test_more_gpus_for_a_cell_than_there_are_is_one_line_and_exit_code_4(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with pytest.raises(PrerequisiteError, match="gpus_per_cell is 4; this machine has 3") as caught:
        LocalExecutor(8, 1, gpus_per_cell=4, gpus=visible_gpus())
    assert caught.value.exit_code == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == ()


def test_fewer_workers_than_gpus_bound_the_cells():
    assert LocalExecutor(3, 1, gpus_per_cell=1, gpus=tuple("01234567")).slots == 3
