"""A sweep on a real Ray of this machine that goes on, and ends, without its command."""

import json

import psutil
import pytest

from chaos.harness import ENVIRONMENT, MICRO, Sweep, kill, micro, tracked, wait_for
from integration.cluster_runs import STEPS, obstruct_training, wait_until, whole_checkpoints
from longact_cli.cells import list_cells, peek_status
from longact_cli.files import read_json

pytestmark = pytest.mark.slow
RAY = ("executor=ray", "executor.threads_per_worker=1", "executor.workers=1")
MEMORY = 80 << 20


@pytest.fixture(scope="module")
def cluster():
    """A head without resources and a node with one core, on the loopback address."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'longact[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        # Ray would listen at this machine's outward address otherwise.
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # a token of this process is not the command's
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        yield cluster
        cluster.shutdown()


def sweep_on(folder, cluster, *more):
    given = [*MICRO, *RAY, f"executor.address={cluster.address}", *more]
    environment = {**ENVIRONMENT, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return Sweep(folder, ["-m", "longact_cli", *given], "micro", environment)


def states(sweep):
    """Return stage and arm, and status, of each cell."""
    found = {}
    for directory in list_cells(sweep.runs):
        if cell := read_json(directory.path / "cell.json"):
            found[cell["stage"], cell["arm"]] = peek_status(directory)
    return found


def jobs(sweep):
    return {
        path: json.loads(path.read_text())["job"] for path in sweep.runs.glob("cells/*/job.json")
    }


def kill_turns(cluster):
    """Kill the actor that gives cells their turn, and nothing else."""
    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
    workers = [worker for pid in raylets for worker in psutil.Process(pid).children()]
    (turns,) = [worker for worker in workers if "ray::Turns" in " ".join(worker.cmdline())]
    turns.kill()


def test_a_sweep_ends_without_its_command_and_a_rerun_starts_nothing(tmp_path, cluster):
    long = ("--steps", str(STEPS))  # so that both are still there when they are killed
    sweep = sweep_on(tmp_path / "ray", cluster, *long)
    process = sweep.start()
    reached = wait_for(lambda: whole_checkpoints(sweep.folder) >= 2, process)
    assert reached, process.communicate()[0]
    kill(process)
    kill_turns(cluster)
    handed_over = jobs(sweep)
    assert len(handed_over) == 3
    wait_until(lambda: {status.state for status in states(sweep).values()} == {"done"})
    found = states(sweep)
    assert [status.attempt for status in found.values()] == [1, 1, 1]
    assert all(status.retries == () for status in found.values())
    trained, evaluated = found["train", "salient"], found["eval", "salient"]
    assert evaluated.started >= trained.finished
    printed = sweep.finish()
    assert "all 3 cells are finished; nothing to run" in printed
    assert jobs(sweep) == handed_over
    assert set(tracked(sweep.runs).values()) == {1}
    local = micro(tmp_path / "local", *long)
    local.finish()
    assert sweep.tables() == local.tables() != {}


@pytest.mark.minutes
def test_an_evaluation_whose_training_fails_is_not_run_and_runs_later(tmp_path, cluster):
    sweep = sweep_on(tmp_path, cluster)
    obstacle = obstruct_training(sweep)
    process = sweep.start()
    assert wait_for(lambda: "running" in {s.state for s in states(sweep).values()}, process)
    kill(process)
    expected = {"train": "failed", "eval": "blocked"}
    wait_until(
        lambda: (
            {stage: s.state for (stage, arm), s in states(sweep).items() if arm == "salient"}
            == expected
        )
    )
    assert states(sweep)["eval", "salient"].attempt == 0
    obstacle.unlink()
    sweep.command.append("--retry-failed")
    sweep.finish()
    assert {status.state for status in states(sweep).values()} == {"done"}
