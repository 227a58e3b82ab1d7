"""Trying again, calling off, and handing over to a cluster, with real processes for cells."""

import os
import signal
import threading
import time

import pytest

from cell_scripts import ScriptExecutor, times_run
from longact_cli.cells import cell_dir, create, read_status
from longact_cli.config.compose import compose, parse
from longact_cli.controls import plan_sweep, plan_train
from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.execution import choose, runner
from longact_cli.execution.base import HandOver
from longact_cli.execution.cancel import cancel
from longact_cli.execution.cancelled import CellsCancelled
from longact_cli.execution.job import CellProcess, JobRecord, end_code, write_job
from longact_cli.execution.runner import Runner, RunOptions
from longact_cli.execution.slurm import parameters

ONCE_THEN_FINE = """
if read_status(directory).attempt == 1:
    {}
"""
KILLED = "import os; os.kill(os.getpid(), 9)"


def revision(_model):
    return "w"


@pytest.fixture
def plan():
    return plan_train("s", compose(parse([])), revision=revision)


def only_status(plan, runs):
    return read_status(cell_dir(runs, plan.cells[0].digest))


def test_a_killed_cell_is_tried_again_and_the_class_is_recorded(plan, tmp_path):
    body = ONCE_THEN_FINE.format(KILLED)
    assert Runner(plan, tmp_path, ScriptExecutor(body)).run().ok
    status = only_status(plan, tmp_path)
    assert (status.attempt, status.retries, status.state) == (2, ("signal",), "done")


def test_tries_are_bounded(plan, tmp_path):
    outcome = Runner(plan, tmp_path, ScriptExecutor(KILLED), options=RunOptions(retries=2)).run()
    status = only_status(plan, tmp_path)
    assert outcome.count("failed") == 1
    assert (status.attempt, status.retries) == (3, ("signal", "signal"))


@pytest.mark.parametrize("failure", ["config", "oom", "error"])
def test_what_the_cell_caused_is_never_tried_again(plan, tmp_path, failure):
    body = f"""
    write_status(directory, replace(read_status(directory), state="failed", failure="{failure}",
        error="said"))
    sys.exit(1)
    """
    assert Runner(plan, tmp_path, ScriptExecutor(body)).run().count("failed") == 1
    status = only_status(plan, tmp_path)
    assert times_run(plan, tmp_path) == [1]
    assert ("micro_batch_size" in status.error) == (failure == "oom")


def test_a_cell_cancelled_before_it_starts_is_left_out_and_runs_the_next_time(tmp_path):
    plan = plan_sweep("s", [compose(parse([]))], revision=revision, controls=False)
    train = next(cell for cell in plan.cells if cell.stage == "train")
    name = cell_dir(tmp_path, train.digest).path.name
    threading.Timer(0.3, lambda: CellsCancelled(tmp_path).add(name)).start()
    # One slot: the cell at the front of the queue is long, so the other one waits.
    first = ScriptExecutor("time.sleep(2.5 if read_cell(directory).parent is None else 0)", slots=1)
    outcome = Runner(_base_first(plan), tmp_path, first).run()
    assert outcome.states[train.digest] == "interrupted"
    assert outcome.count("blocked") == 1
    assert Runner(plan, tmp_path, ScriptExecutor()).run().ok


def _base_first(plan):
    from dataclasses import replace

    base = [cell for cell in plan.cells if cell.stage == "eval" and cell.parent is None]
    return replace(plan, cells=(*base, *(cell for cell in plan.cells if cell not in base)))


def test_cancel_stops_a_running_cell_and_the_runner_does_not_try_it_again(plan, tmp_path):
    found = []
    directory = cell_dir(tmp_path, plan.cells[0].digest)

    def call_off():
        while not (directory.path / "runs.txt").exists():
            time.sleep(0.05)
        found.extend(cancel([directory], grace=30))

    thread = threading.Thread(target=call_off)
    thread.start()
    outcome = Runner(plan, tmp_path, ScriptExecutor("time.sleep(60)")).run()
    thread.join()
    assert outcome.count("interrupted") == 1
    assert [item.outcome for item in found] == ["stopped"]
    assert times_run(plan, tmp_path) == [1]
    assert cancel([directory], grace=0) == ()


@pytest.mark.parametrize(("grace", "saved"), [(0.0, False), (float("inf"), True)])
def test_cancel_kills_at_once_or_waits_for_the_checkpoint(plan, tmp_path, grace, saved):
    directory = cell_dir(tmp_path, plan.cells[0].digest)
    create(directory, plan.cells[0])
    slow = (
        "import signal, sys\n"
        "def save(*_):\n"
        "    time.sleep(2)\n"
        "    (directory.path / 'saved').touch()\n"
        "    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "(directory.path / 'begun').touch()\n"
        "time.sleep(60)\n"
    )
    process = ScriptExecutor(slow).start(directory)
    while not (directory.path / "begun").exists():
        time.sleep(0.02)
    (found,) = cancel([directory], grace=grace)
    assert found.outcome == "stopped"
    assert (directory.path / "saved").exists() == saved
    while process.poll() is None:
        time.sleep(0.02)
    assert process.poll() == (143 if saved else -9)


def test_a_second_ctrl_c_kills_a_cell_that_does_not_stop(plan, tmp_path):
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    mark = cell_dir(tmp_path, plan.cells[0].digest).path / "runs.txt"

    def interrupt_twice():
        while not mark.exists():
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_twice)
    thread.start()
    begun = time.monotonic()
    outcome = Runner(plan, tmp_path, ScriptExecutor(stubborn)).run()
    thread.join()
    assert outcome.interrupted
    assert outcome.count("interrupted") == 1
    assert time.monotonic() - begun < 15


def test_a_cell_that_saves_for_long_is_waited_for(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_KILL_SECONDS", 0.1)
    saving = """
        import signal
        def save(*_):
            time.sleep(1.5)
            (directory.path / "saved").touch()
            sys.exit(143)
        signal.signal(15, save)
        (directory.path / "ready").touch()
        time.sleep(60)
    """
    folder = cell_dir(tmp_path, plan.cells[0].digest).path

    def interrupt():
        while not (folder / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcome = Runner(plan, tmp_path, ScriptExecutor(saving)).run()
    thread.join()
    assert outcome.count("interrupted") == 1
    assert (folder / "saved").exists()


class Cluster:
    """A cluster that outlives the runner: its jobs are processes of this test."""

    name = "cluster"
    outlives = True
    chains = False
    slots = 8

    def __init__(self, body="pass"):
        self.script = ScriptExecutor(body)
        self.jobs = {}
        self.batches = []

    def start(self, directory):
        return self.start_together([HandOver(directory)])[0]

    def start_together(self, cells):
        self.batches.append(len(cells))
        for cell in cells:
            self.jobs[cell.directory.path] = self.script.start(cell.directory)
        return [self.jobs[cell.directory.path] for cell in cells]

    def attach(self, directory):
        handle = self.jobs.get(directory.path)
        return handle if handle is not None and handle.poll() is None else None


@pytest.mark.slow
def test_an_interrupted_runner_leaves_a_clusters_jobs_and_the_next_one_attaches(tmp_path):
    plan = plan_sweep("s", [compose(parse([]))], revision=revision, controls=False)
    cluster = Cluster("time.sleep(4)")
    threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    outcome = Runner(plan, tmp_path, cluster).run()
    assert (outcome.interrupted, outcome.left) == (True, 2)
    assert all(job.poll() is None for job in cluster.jobs.values())
    assert Runner(plan, tmp_path, cluster).run().ok
    assert times_run(plan, tmp_path) == [1, 1, 1]
    assert cluster.batches == [2, 1]


def test_a_job_that_starts_again_continues_the_cell_and_counts_the_attempt(plan, tmp_path):
    from longact_cli.cells import Status, create, write_status

    directory = cell_dir(tmp_path, plan.cells[0].digest)
    create(directory, plan.cells[0])
    write_status(directory, Status("failed", 1, exit_code=-15, failure="signal"))
    assert not CellProcess(str(directory.path), threads=1)._is_over()
    status = read_status(directory)
    assert (status.state, status.attempt, status.retries) == ("pending", 2, ("preempted",))
    write_job(directory, JobRecord("slurm", "12_3"))
    assert end_code(directory) == 256


def test_a_cell_that_was_asked_to_end_by_someone_else_is_tried_again(plan, tmp_path):
    body = """
    if read_status(directory).attempt == 1:
        write_status(directory, replace(read_status(directory), state="interrupted"))
        sys.exit(143)
    """
    assert Runner(plan, tmp_path, ScriptExecutor(body)).run().ok
    assert only_status(plan, tmp_path).retries == ("signal",)


def test_a_job_without_its_orchestrator_knows_that_its_cell_was_called_off(plan, tmp_path):
    from longact_cli.cells import Status, create, write_status

    directory = cell_dir(tmp_path, plan.cells[0].digest)
    create(directory, plan.cells[0])
    write_status(directory, Status("pending", 1))
    CellsCancelled(tmp_path).add(directory.path.name)

    class Killed:
        def poll(self):
            return -15

    job = CellProcess(str(directory.path), threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("longact_cli.execution.job.spawn", lambda *_, **__: Killed())
        job.run()
    assert read_status(directory).state == "interrupted"
    assert "cancelled" in read_status(directory).error


def test_a_missing_executor_names_its_install_line(monkeypatch):
    monkeypatch.setattr(choose, "find_spec", lambda _name: None)
    for name in ("slurm", "ray"):
        with pytest.raises(PrerequisiteError, match=rf"pip install 'longact\[{name}\]'"):
            choose.check_available(name)
    assert choose.missing("local") is None
    monkeypatch.setattr(choose, "find_spec", lambda _name: "there")
    monkeypatch.setenv("PATH", "")
    assert "sbatch" in choose.missing("slurm")


def test_the_settings_of_a_slurm_job():
    make_sbatch = pytest.importorskip("submitit.slurm.slurm")._make_sbatch_string
    given = ["executor=slurm", "executor.partition=gpu", "executor.memory_gb=1.5",
             "executor.sbatch={constraint: h100}", "executor.gpus_per_cell=2"]  # fmt: skip
    found = parameters(compose(parse(given)).executor)
    assert (found["partition"], found["mem"], found["gpus_per_node"]) == ("gpu", "1536M", 2)
    assert found["additional_parameters"] == {"requeue": True, "constraint": "h100"}
    assert found["time"] == 720
    assert "account" not in found
    script = make_sbatch("true", folder="/f", **found)
    assert "#SBATCH --gpus-per-node=2\n" in script
    none = parameters(compose(parse(["executor=slurm", "executor.gpus_per_cell=0"])).executor)
    assert "gpus" not in make_sbatch("true", folder="/f", **none)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["executor.partition=gpu"], "only the executor 'slurm' reads"),
        (["executor=slurm", "executor.address=auto"], "only the executor 'ray' reads"),
        (["executor.retries=99"], "executor.retries is 99"),
    ],
)
def test_a_setting_of_another_executor_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        compose(parse(given))


def test_how_a_cell_runs_is_not_in_its_digest(plan):
    other = compose(parse(["executor=slurm", "executor.workers=3", "executor.gpus_per_cell=0"]))
    assert plan_train("s", other, revision=revision).cells[0].digest == plan.cells[0].digest
