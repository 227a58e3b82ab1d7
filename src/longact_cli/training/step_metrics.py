"""Turn what TRL logs for each micro-batch into the numbers of the whole optimizer step."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _Value(NamedTuple):
    """A logged number and what it weighs in a mean: how many values it is the mean of."""

    value: float
    weight: float


class OneProcess:
    """An accelerator as if this process were alone: what it gathers and reduces is its own."""

    def __init__(self, accelerator: Any) -> None:
        """Stand in for `accelerator`."""
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        """Return all else from the real one."""
        return getattr(self._accelerator, name)

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensor."""
        return tensor

    def reduce(self, tensor: Tensor, reduction: str = "sum") -> Tensor:
        """Return the tensor."""
        return tensor


class StepMetrics:
    """Collects what is logged inside `collecting` and puts one number for the step in its place.

    Inside, TRL's loss must not talk to other processes: micro-batches have other sizes there.
    """

    def __init__(self, trainer: Any) -> None:
        """Follow the metrics of a GRPO trainer."""
        self._trainer = trainer
        self._values: dict[str, list[_Value]] = {}

    @contextmanager
    def collecting(self, completion_mask: Tensor) -> Iterator[None]:
        """Collect the metrics of one micro-batch.

        Args:
            completion_mask: 1 = token of the loss, [rows, tokens].
        """
        trainer, metrics = self._trainer, self._trainer._metrics["train"]
        known = {name: len(values) for name, values in metrics.items()}
        accelerator = trainer.accelerator
        trainer.accelerator = OneProcess(accelerator)
        try:
            yield
        finally:
            trainer.accelerator = accelerator
        tokens, rows = float(completion_mask.sum()), float(len(completion_mask))
        by_rows = trainer.importance_sampling_level == "sequence"
        for name, values in metrics.items():
            # TRL takes the mean over rollouts where it has one number for each.
            rowwise = completion_mask.shape[1] == 1 or (by_rows and name.startswith("clip_ratio/"))
            weight = rows if rowwise else tokens
            for value in values[known.get(name, 0) :]:
                self._values.setdefault(name, []).append(_Value(value, weight))
            del values[known.get(name, 0) :]

    def log(self) -> None:
        """Append the step's numbers, over all processes, to the trainer's metrics."""
        names = sorted(self._values)
        own = [_summary(name, self._values[name]) for name in names]
        accelerator = self._trainer.accelerator
        table = torch.tensor([own], dtype=torch.float64, device=accelerator.device)
        rows = accelerator.gather(table).tolist() if names else []
        for index, name in enumerate(names):
            found = [_Value(*row[index]) for row in rows]
            value, _ = _summary(name, found)
            self._trainer._metrics["train"][name].append(value)


def _summary(name: str, values: list[_Value]) -> _Value:
    """Return the smallest, the largest or the mean of some numbers, by what the name says."""
    if name.endswith(("_min", "_max")):
        known = [value for value, _ in values if not math.isnan(value)]
        choose = min if name.endswith("_min") else max
        return _Value(choose(known, default=math.nan), 1.0)
    total = sum(weight for _, weight in values)
    return _Value(sum(value * weight for value, weight in values) / max(total, 1.0), total)
