"""A sweep on a real Slurm that goes on, and ends, without the command that submitted it."""

import json
import subprocess
import sys

import pytest

import slurm_cluster
from chaos.harness import ENVIRONMENT, MICRO, Sweep, kill, micro, tracked, wait_for
from integration.cluster_runs import (
    STEPS,
    obstruct_training,
    start,
    wait_until,
    weights,
    whole_checkpoints,
)
from longact_cli.cells import list_cells, peek_status
from longact_cli.execution.choose import missing
from longact_cli.files import read_json
from processes import processes, suspended, told_to_end

_REASON = slurm_cluster.missing() or missing("slurm")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(_REASON), reason=str(_REASON))]
SLURM = ("executor=slurm", "executor.gpus_per_cell=0", "executor.threads_per_worker=1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm_cluster.slurm_cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield {**ENVIRONMENT, **environment}


def sweep_on(folder, environment, *more):
    return Sweep(folder, ["-m", "longact_cli", *MICRO, *SLURM, *more], "micro", environment)


def ask(cluster, *command):
    done = subprocess.run(command, env=cluster, capture_output=True, text=True, check=True)
    return done.stdout


def queue(cluster):
    return ask(cluster, "squeue", "--me", "--noheader", "--array", "--format=%i %r %E")


def submit_and_die(sweep, cluster):
    """Start the command; kill it as soon as the jobs wait for each other."""
    process = sweep.start()
    # Once released, a job that waits for its training has the reason `Dependency`.
    assert wait_for(lambda: " Dependency afterany" in queue(cluster), process)
    kill(process)


def states(sweep):
    """Return stage (and arm) and status of each cell."""
    found = {}
    for directory in list_cells(sweep.runs):
        cell = read_json(directory.path / "cell.json")
        found[cell["stage"], cell["arm"]] = peek_status(directory)
    return found


def submissions(sweep):
    return len(list(sweep.runs.glob("slurm/*/*_submission.sh")))


def test_a_sweep_ends_without_its_command_and_although_its_training_is_requeued(tmp_path, cluster):
    long = ("--steps", str(STEPS))  # so that the training is still there when it is looked for
    sweep = sweep_on(tmp_path / "slurm", cluster, *long)
    submit_and_die(sweep, cluster)
    wait_until(lambda: whole_checkpoints(sweep.folder) >= 2)
    cell = sweep.cell("train")
    with suspended(processes(" _cell ", cell.path.name)) as (training,):
        ask(cluster, "scontrol", "requeue", read_json(cell.job)["job"])
        wait_until(lambda: told_to_end(training))
    wait_until(lambda: not queue(cluster))
    found = states(sweep)
    assert {status.state for status in found.values()} == {"done"}
    assert found["train", "salient"].retries == ("preempted",)
    assert (found["eval", "salient"].attempt, found["eval", "salient"].exit_code) == (1, 0)
    printed = sweep.finish()
    assert "all 3 cells are finished; nothing to run" in printed
    assert submissions(sweep) == 1
    assert set(tracked(sweep.runs).values()) == {1}
    assert len(tracked(sweep.runs)) == 3
    local = micro(tmp_path / "local", *long)
    local.finish()
    assert sweep.tables() == local.tables() != {}


@pytest.mark.minutes
def test_an_evaluation_whose_training_fails_is_not_run_and_runs_later(tmp_path, cluster):
    sweep = sweep_on(tmp_path, cluster)
    obstacle = obstruct_training(sweep)
    submit_and_die(sweep, cluster)
    wait_until(lambda: not queue(cluster))
    found = states(sweep)
    assert found["train", "salient"].state == "failed"
    assert found["eval", "base"].state == "done"
    evaluation = found["eval", "salient"]
    assert (evaluation.state, evaluation.attempt) == ("blocked", 0)
    shown = ask(
        cluster, sys.executable, "-m", "longact_cli", "status", "--runs-dir", str(sweep.runs)
    )
    assert "its training did not finish: fix the cause" in shown
    obstacle.unlink()
    sweep.command.append("--retry-failed")
    sweep.finish()
    assert {status.state for status in states(sweep).values()} == {"done"}


@pytest.mark.minutes
def test_a_training_at_its_time_limit_goes_on_in_a_requeued_job_with_the_same_weights(
    tmp_path, cluster
):
    long = ("--steps", "500", "algorithm.checkpoint_every=20", "data.context_lengths=[320]")
    limit = ("executor.time_minutes=1", "executor.signal_seconds=30")
    process = start(tmp_path / "slurm", *SLURM, *long, *limit, env=cluster)
    printed, _ = process.communicate(timeout=900)
    assert process.returncode == 0, printed
    (path,) = tmp_path.glob("slurm/runs/cells/*/status.json")
    retries = json.loads(path.read_text())["retries"]
    assert len(retries) >= 1
    assert set(retries) == {"preempted"}
    process = start(tmp_path / "local", *long, env=cluster)
    printed, _ = process.communicate(timeout=900)
    assert process.returncode == 0, printed
    assert weights(tmp_path / "slurm") == weights(tmp_path / "local")
