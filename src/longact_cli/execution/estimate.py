"""What a plan will cost: tokens from the configuration, time from cells that have finished."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from longact_cli.cells import CellDir, cell_dir, is_done, list_cells, read_cell, read_status
from longact_cli.config.schema import RunConfig
from longact_cli.errors import CellFailedError
from longact_cli.models.loading import resolve_checkpoint
from longact_cli.plan import Cell, Plan
from longact_cli.training.memory import Layout, checkpoint_shape, estimate_memory

# Forward and backward through a token cost about three forward passes.
_TRAIN_PASSES = 3


@dataclass(frozen=True)
class Estimate:
    """The cost of what is left of a plan.

    Attributes:
        cells: Cells still to run.
        finished: Cells that are done already.
        tokens: Upper bound on tokens through the model, forward-equivalent.
        seconds: Wall time on `workers` processes; None until a similar cell has finished.
    """

    cells: int
    finished: int
    tokens: int
    seconds: float | None


def cell_tokens(cell: Cell) -> int:
    """Return an upper bound on the forward-equivalent tokens of one cell.

    RULER's context length counts prompt and answer, so it bounds a rollout's length.
    """
    config = cell.config
    if cell.stage == "eval":
        bench = config.benchmark
        return len(bench.tasks) * bench.limit * sum(bench.context_lengths)
    algorithm = config.algorithm
    rollouts = algorithm.prompts_per_step * algorithm.group_size * algorithm.steps
    sampled = 1 / algorithm.updates_per_rollout
    longest = max(config.data.context_lengths)
    return round(rollouts * longest * (_TRAIN_PASSES + 1 + sampled))


def estimate(plan: Plan, runs_dir: Path, *, workers: int) -> Estimate:
    """Estimate what is left of `plan` in the store `runs_dir`."""
    left = [cell for cell in plan.cells if not is_done(cell_dir(runs_dir, cell.digest))]
    history = _history(list_cells(runs_dir))
    rates = [history.get(_kind(cell)) for cell in left]
    known = [rate for rate in rates if rate is not None]
    complete = left and len(known) == len(left)
    seconds = (
        sum(rate * cell_tokens(cell) for rate, cell in zip(known, left, strict=True)) / workers
        if complete
        else None
    )
    tokens = sum(map(cell_tokens, left))
    return Estimate(len(left), len(plan.cells) - len(left), tokens, seconds)


def memory_lines(plan: Plan) -> tuple[str, ...]:
    """Return batch and estimated memory of training, for each model, algorithm and layout."""
    lines: dict[str, None] = {}
    for cell in plan.cells:
        if cell.stage == "train":
            lines[_batch_line(cell.config)] = None
            lines |= dict.fromkeys(_memory_line(cell.config))
    return tuple(lines)


def _batch_line(config: RunConfig) -> str:
    """Say what one optimizer step sees, and how it is divided."""
    algorithm, processes = config.algorithm, config.parallel.processes
    if algorithm.kind == "sft":
        batch = f"{algorithm.prompts_per_step} prompts"
        share = f"{algorithm.prompts_per_step // processes} on each"
    else:
        rollouts = algorithm.prompts_per_step * algorithm.group_size
        batch = f"{algorithm.prompts_per_step} prompts x {algorithm.group_size} = {rollouts}"
        batch += " rollouts"
        size = algorithm.micro_batch(processes)
        share = f"micro-batches of {size}, {rollouts // processes // size} of them on each"
        if algorithm.fills_tokens:
            share = f"micro-batches of up to {algorithm.micro_batch_tokens} tokens"
    noun = "process" if processes == 1 else f"processes ({config.parallel.sharding})"
    return (
        f"batch of {config.model.name} with {algorithm.name}: {batch} a step; {processes} {noun}, "
        f"{share}; {gpus_needed(config)} GPU{'s' if gpus_needed(config) > 1 else ''} if on GPUs"
    )


def gpus_needed(config: RunConfig) -> int:
    """Return the GPUs of a training cell: one for each process, and those of a rollout server."""
    serves = config.algorithm.use_vllm and config.vllm.mode == "server"
    return config.parallel.processes + (config.vllm.gpus if serves else 0)


def _memory_line(config: RunConfig) -> Iterator[str]:
    shape = checkpoint_shape(resolve_checkpoint(config.model))
    if shape is None:
        return
    algorithm = config.algorithm
    memory = estimate_memory(
        shape,
        algorithm,
        sequence_tokens=max(config.data.context_lengths) + algorithm.max_completion_tokens,
        layout=Layout.of(config.parallel, config.vllm),
    )
    waiting = f", {memory.gradients / 1e9:.1f} GB whole gradients" if memory.gradients else ""
    where = "on one device" if config.parallel.processes == 1 else "on each device"
    yield (
        f"memory of {config.model.name} with {algorithm.name}: about {memory.total / 1e9:.1f} GB "
        f"{where}, {memory.states / 1e9:.1f} GB of it weights, gradients and optimizer states, "
        f"{memory.activations / 1e9:.1f} GB activations, {memory.rollouts / 1e9:.1f} GB rollouts"
        f"{waiting}"
    )


def _kind(cell: Cell) -> tuple[str, str]:
    return cell.stage, cell.config.model.name


def _history(directories: Iterable[CellDir]) -> dict[tuple[str, str], float]:
    """Return the median seconds per token of finished cells, by stage and model."""
    found: dict[tuple[str, str], list[float]] = {}
    for directory in directories:
        status = read_status(directory)
        if status.state != "done" or status.started is None or status.finished is None:
            continue
        try:
            cell = read_cell(directory)
        except CellFailedError:
            continue
        rate = (status.finished - status.started) / max(1, cell_tokens(cell))
        found.setdefault(_kind(cell), []).append(rate)
    return {kind: median(rates) for kind, rates in found.items()}
