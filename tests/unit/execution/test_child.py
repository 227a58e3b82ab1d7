"""The process of one cell: what it refuses and what it records."""

import json

import pytest

from longact_cli.cells import cell_dir, create, read_status
from longact_cli.config.compose import compose, parse
from longact_cli.controls import plan_eval, plan_train
from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.evaluation import inputs
from longact_cli.execution.base import EXIT_HELD
from longact_cli.execution.child import run_cell
from longact_cli.execution.preflight import check_plan, check_runs_dir
from longact_cli.holding import hold
from longact_cli.plan import eval_cell, train_cell


def revision(_model):
    return "w"


@pytest.fixture
def trained():
    return train_cell(compose(parse([])), revision)


def test_an_edited_description_is_refused(tmp_path, trained):
    directory = cell_dir(tmp_path, trained.digest)
    create(directory, trained)
    path = directory.path / "cell.json"
    cell = json.loads(path.read_text())
    cell["config"]["mask"]["sparsity"] = 0.9
    path.write_text(json.dumps(cell))
    assert run_cell(directory) != 0
    status = read_status(directory)
    assert status.state == "failed"
    assert "cell.json was changed" in status.error


def test_an_evaluation_without_its_checkpoint_says_so(tmp_path, trained):
    cell = eval_cell(trained.config, revision, parent=trained)
    for known in (trained, cell):
        create(cell_dir(tmp_path, known.digest), known)
    directory = cell_dir(tmp_path, cell.digest)
    assert run_cell(directory) == 1
    assert "missing or damaged" in read_status(directory).error


def test_a_held_cell_is_not_run_twice(tmp_path, trained):
    directory = cell_dir(tmp_path, trained.digest)
    create(directory, trained)
    with hold(directory):
        assert run_cell(directory) == EXIT_HELD
    assert read_status(directory).state == "pending"


def test_lengths_past_the_window_and_unknown_tasks_are_refused_together():
    long = compose(parse(["benchmark.context_lengths=[99999]"]))
    odd = compose(parse(["benchmark.tasks=[niah_singel_1]"]))
    with pytest.raises(ConfigError) as caught:
        check_plan(plan_eval("s", [long, odd], revision=revision))
    assert "benchmark.context_lengths is 99999" in str(caught.value)
    assert "Did you mean 'niah_single_1'?" in str(caught.value)
    with pytest.raises(ConfigError, match=r"data\.tasks is 'vtt'"):
        check_plan(plan_train("s", compose(parse(["data.tasks=[vtt]"])), revision=revision))


def test_a_store_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        check_runs_dir(tmp_path / "file" / "runs")
    check_runs_dir(tmp_path / "new" / "runs")


def test_a_plan_for_another_machine_can_be_looked_at_without_its_backend(monkeypatch):
    monkeypatch.setattr(inputs, "vllm_version", lambda: None)
    config = compose(parse(["benchmark.backend=vllm"]))
    plan = plan_eval("s", [config], revision=revision)
    check_plan(plan, runs=False)
    with pytest.raises(PrerequisiteError, match="vLLM is not installed"):
        check_plan(plan)
    nowhere = compose(parse(["benchmark.backend=openai"]))
    with pytest.raises(ConfigError, match=r"benchmark\.base_url is null"):
        check_plan(plan_eval("s", [nowhere], revision=revision), runs=False)
