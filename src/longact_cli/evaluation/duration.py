"""How long an evaluation will take: from records of earlier ones, else from the device's speed."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from longact_cli.cells import list_cells, read_cell
from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import CellFailedError, LongActError
from longact_cli.evaluation.usage import Usage, read_usage, usage_path
from longact_cli.evaluation.workload import TaskLoad
from longact_cli.models.loading import checkpoint_config, resolve_checkpoint

_MATRIX, _COPIED_BYTES, _REPEATS = 1024, 64 << 20, 5
_STEP_SECONDS_PER_LAYER = 3e-4
"""What launching one layer takes when one token is generated, whatever its size."""


class Duration(NamedTuple):
    """An estimate and where it comes from; None where nothing is known."""

    seconds: float | None
    source: str


def estimate_duration(
    loads: Sequence[TaskLoad], *, model: ModelConfig, benchmark: BenchmarkConfig, runs_dir: Path
) -> Duration:
    """Return how long the answers will take on this machine, start-up left out.

    Records of this model and backend in the store come first; answer budgets count in full there
    as here. Without one, a local checkpoint's operations and bytes are divided by what the device
    was just measured to do, which is good to a factor of about three.
    """
    records = _records(runs_dir, model=model, benchmark=benchmark)
    if records:
        rate = median(one.seconds / (one.prompt_tokens + one.reserved_tokens) for one in records)
        tokens = sum(load.prompt_tokens + load.generated_tokens for load in loads)
        return Duration(rate * tokens, f"from {len(records)} earlier evaluations in {runs_dir}")
    if benchmark.backend == "openai":
        return Duration(None, "unknown until the server has answered the first batch")
    try:
        shape = _shape(resolve_checkpoint(model))
    except (LongActError, KeyError):
        return Duration(None, "unknown until the first batch: the checkpoint is not here yet")
    speed = measure_device()
    seconds = sum(_seconds(load, shape, speed, batch=benchmark.batch_size) for load in loads)
    return Duration(
        seconds,
        f"rough: computed for a device of {speed.operations / 1e9:,.0f} GFLOP/s and "
        f"{speed.bandwidth / 1e9:,.0f} GB/s, as just measured",
    )


def _records(runs_dir: Path, *, model: ModelConfig, benchmark: BenchmarkConfig) -> list[Usage]:
    """Return the usage of evaluations of this model on this backend, same benchmark if any."""
    same: list[Usage] = []
    other: list[Usage] = []
    for directory in list_cells(runs_dir):
        usage = read_usage(usage_path(directory.samples))
        if not usage.seconds or not usage.prompt_tokens:
            continue
        try:
            config = read_cell(directory).config
        except (CellFailedError, ValueError):
            continue
        known = config.benchmark
        if (config.model.name, known.backend) == (model.name, benchmark.backend):
            (same if known.name == benchmark.name else other).append(usage)
    return same or other


class Speed(NamedTuple):
    """What the device does in a second: floating-point operations, and bytes moved."""

    operations: float
    bandwidth: float


class Shape(NamedTuple):
    """What of a model decides its cost."""

    parameters: int
    layers: int
    hidden: int
    cache_bytes: int
    """Keys and values of one token, in 2-byte numbers."""


def _shape(checkpoint: str) -> Shape:
    """Read a local checkpoint's shape without loading it."""
    settings = checkpoint_config(checkpoint)
    settings = settings.get("text_config", settings)
    stored = sum(path.stat().st_size for path in Path(checkpoint).glob("*.safetensors"))
    if not stored:
        raise KeyError("safetensors")
    width = 4 if settings.get("dtype", settings.get("torch_dtype")) == "float32" else 2
    heads = settings["num_attention_heads"]
    head = settings.get("head_dim") or settings["hidden_size"] // heads
    keys = settings.get("num_key_value_heads", heads) * head
    layers = settings["num_hidden_layers"]
    return Shape(stored // width, layers, heads * head, 2 * 2 * layers * keys)


def _seconds(load: TaskLoad, shape: Shape, speed: Speed, *, batch: int) -> float:
    """Return reading and writing time: operations of the prompts, then bytes of every step."""
    if not load.samples:
        return 0.0
    prompt, answer = load.prompt_tokens / load.samples, load.generated_tokens / load.samples
    operations = 2 * shape.parameters * prompt + 2 * shape.layers * shape.hidden * prompt**2
    steps = answer * -(-load.samples // batch)
    per_step = 2 * shape.parameters / speed.bandwidth + shape.layers * _STEP_SECONDS_PER_LAYER
    cache = load.generated_tokens * shape.cache_bytes * prompt / speed.bandwidth
    return load.samples * operations / speed.operations + steps * per_step + cache


def measure_device() -> Speed:
    """Measure matrix products and copies on the device that a backend would use, in a moment."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    size = _MATRIX * (8 if device == "cuda" else 1)
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)

    def best(action: Callable[[], object]) -> float:
        times = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            action()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        return min(times)

    return Speed(
        2 * size**3 / best(lambda: matrix @ matrix),
        2 * _COPIED_BYTES / best(lambda: source.clone()),
    )
