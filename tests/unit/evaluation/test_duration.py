"""How long an evaluation will take."""

import pytest

from longact_cli.cells import cell_dir, create
from longact_cli.config.compose import compose
from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.evaluation import duration
from longact_cli.evaluation.duration import Speed, estimate_duration
from longact_cli.evaluation.usage import Usage, usage_path, write_usage
from longact_cli.evaluation.workload import TaskLoad
from longact_cli.plan import eval_cell

LOADS = (TaskLoad("vt", 512, 10, 4000, 300, None, None),)
MICRO = ModelConfig(name="micro")


def asked(**changes) -> BenchmarkConfig:
    values = {"name": "ruler", "tasks": ("vt",), "context_lengths": (512,), "limit": 10}
    return BenchmarkConfig(**{**values, **changes})


def record(runs_dir, usage, **changes):
    config = compose([])
    benchmark = config.benchmark.model_copy(update=changes)
    cell = eval_cell(config.model_copy(update={"benchmark": benchmark}), lambda _: "r", parent=None)
    directory = cell_dir(runs_dir, cell.digest)
    create(directory, cell)
    write_usage(usage_path(directory.samples), usage)


def test_records_of_the_same_model_and_backend_come_first(tmp_path):
    record(tmp_path, Usage(10, 2.0, 900, 50, 100))
    record(tmp_path, Usage(10, 50.0, 900, 50, 100), backend="vllm")
    found = estimate_duration(LOADS, model=MICRO, benchmark=asked(), runs_dir=tmp_path)
    assert found.seconds == pytest.approx(2.0 / 1000 * 4300)
    assert found.source == f"from 1 earlier evaluations in {tmp_path}"


def test_a_server_is_unknown_until_it_has_answered(tmp_path):
    benchmark = asked(backend="openai", base_url="http://x/v1")
    found = estimate_duration(LOADS, model=MICRO, benchmark=benchmark, runs_dir=tmp_path)
    assert found == (None, "unknown until the server has answered the first batch")


def test_a_checkpoint_that_is_not_here_is_unknown(tmp_path):
    elsewhere = ModelConfig(name="x", path="nobody/nothing")
    found = estimate_duration(LOADS, model=elsewhere, benchmark=asked(), runs_dir=tmp_path)
    assert found.seconds is None


def test_without_records_operations_and_bytes_are_divided_by_the_device(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text(
        '{"num_attention_heads": 2, "hidden_size": 8, "num_hidden_layers": 1, "dtype": "float32"}'
    )
    (tmp_path / "model.safetensors").write_bytes(bytes(4000))  # 1000 parameters
    monkeypatch.setattr(duration, "measure_device", lambda: Speed(1e6, 1e6))
    model = ModelConfig(name="x", path=str(tmp_path))
    load = TaskLoad("vt", 512, 4, 400, 40, None, None)
    found = estimate_duration(
        (load,), model=model, benchmark=asked(batch_size=2), runs_dir=tmp_path / "runs"
    )
    reading = 4 * (2 * 1000 * 100 + 2 * 1 * 8 * 100**2) / 1e6
    steps = 10 * 2 * (2 * 1000 / 1e6 + 3e-4)  # ten tokens for each of two batches
    cache = 40 * (2 * 2 * 8) * 100 / 1e6
    assert found.seconds == pytest.approx(reading + steps + cache)
    assert found.source.startswith("rough: computed for a device of 0 GFLOP/s")


def test_the_device_is_measured_in_a_moment():
    speed = duration.measure_device()
    assert speed.operations > 1e8
    assert speed.bandwidth > 1e8
