"""Stopping cells on a real Ray of this machine: saved first, killed at once on a second Ctrl-C."""

import os
import signal
import sys
import threading
import time

import pytest

from longact_cli.cells import cell_dir, read_status
from longact_cli.config.compose import compose, parse
from longact_cli.execution.runner import Runner
from longact_cli.holding import is_held
from longact_cli.plan import Plan, build_plan, train_cell

pytestmark = pytest.mark.slow
LONGER_THAN_ANY_GRACE = 12.0
# Stands in for a cell's process, in the processes that Ray's workers start.
CELL = """
import sys

if "_cell" in sys.orig_argv:
    import signal, time
    from dataclasses import replace
    from pathlib import Path
    from longact_cli.cells import CellDir, read_status, write_status
    from longact_cli.execution.child import _die_with_parent
    from longact_cli.holding import hold

    directory = CellDir(Path(sys.orig_argv[-1]))
    folder = directory.path

    def save(*_):
        time.sleep(SECONDS)
        (folder / "saved").touch()
        sys.exit(143)

    _die_with_parent()
    signal.signal(signal.SIGTERM, save)
    with hold(directory):
        write_status(directory, replace(read_status(directory), state="running"))
        (folder / "begun").touch()
        time.sleep(300)
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A runner with one cell that saves for SECONDS and one whose resources nobody has."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'longact[ray]'")
    from longact_cli.execution.ray_ import RayExecutor

    def make(seconds: float) -> tuple[Runner, Plan]:
        (tmp_path / "sitecustomize.py").write_text(CELL.replace("SECONDS", str(seconds)))
        path = filter(None, [str(tmp_path), *sys.path])
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # clusters of other tests have no token
        given = ["executor=ray", "executor.workers=2", "executor.threads_per_worker=1"]
        configs = [
            compose(parse([*given, f"seed={seed}", f"executor.gpus_per_cell={gpus}"]))
            for seed, gpus in ((0, 0), (1, 99))
        ]
        plan = build_plan("s", [train_cell(config, lambda _: "w") for config in configs])
        return Runner(plan, tmp_path, RayExecutor(configs[0].executor)), plan

    yield make
    ray.shutdown()


def interrupt(folder, *, times: int) -> threading.Thread:
    def press():
        while not (folder / "begun").exists():
            time.sleep(0.05)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(3.0)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def test_a_stop_waits_for_the_checkpoint_however_long_it_takes(sweep, tmp_path):
    runner, plan = sweep(LONGER_THAN_ANY_GRACE)
    folder = cell_dir(tmp_path, plan.cells[0].digest).path
    thread = interrupt(folder, times=1)
    outcome = runner.run()
    thread.join()
    assert outcome.interrupted
    assert outcome.count("interrupted") == 2  # the one that waits for GPUs is not waited for
    assert (folder / "saved").exists()


def test_a_second_ctrl_c_kills_a_cell_that_goes_on_saving(sweep, tmp_path):
    runner, plan = sweep(300.0)
    directory = cell_dir(tmp_path, plan.cells[0].digest)
    thread = interrupt(directory.path, times=2)
    begun = time.monotonic()
    outcome = runner.run()
    thread.join()
    assert time.monotonic() - begun < 60
    assert read_status(directory).state == "interrupted"
    assert outcome.count("interrupted") == 2
    deadline = time.monotonic() + 10
    while is_held(directory) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_held(directory)
    assert not (directory.path / "saved").exists()
