"""Metrics of micro-batches as those of the step."""

import math
from collections import defaultdict

import pytest
import torch

from longact_cli.training.step_metrics import StepMetrics


class Accelerator:
    """One of two processes: the other one's table is `theirs`, or there is none."""

    device = torch.device("cpu")

    def __init__(self, theirs: list[list[float]] | None = None) -> None:
        self.theirs = theirs

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        rows = [] if self.theirs is None else [torch.tensor([self.theirs], dtype=own.dtype)]
        return torch.cat([own, *rows])


class Trainer:
    importance_sampling_level = "token"

    def __init__(self, theirs: list[list[float]] | None = None) -> None:
        self.accelerator = Accelerator(theirs)
        self._metrics = {"train": defaultdict(list)}

    def put(self, metrics: StepMetrics, kept: list[list[int]], **values: float) -> None:
        with metrics.collecting(torch.tensor(kept)):
            assert self.accelerator.gather(torch.ones(3)).shape == (3,)
            for name, value in values.items():
                self._metrics["train"][name].append(value)


def test_means_are_weighed_by_tokens_and_extremes_are_those_of_all() -> None:
    trainer = Trainer()
    trainer._metrics["train"]["reward"].append(0.5)
    trainer._metrics["train"]["entropy"].append(9.0)  # of the step before
    metrics = StepMetrics(trainer)
    trainer.put(metrics, [[1, 1], [1, 0]], entropy=1.0, low_min=0.5, high_max=math.nan)
    trainer.put(metrics, [[1, 0]], entropy=3.0, low_min=math.nan, high_max=0.25)
    metrics.log()
    assert trainer._metrics["train"] == {
        "reward": [0.5],
        "entropy": [9.0, 1.5],  # (3 x 1 + 1 x 3) / 4
        "low_min": [0.5],
        "high_max": [0.25],
    }


def test_a_number_for_each_rollout_is_weighed_by_rollouts() -> None:
    trainer = Trainer()
    trainer.importance_sampling_level = "sequence"
    metrics = StepMetrics(trainer)
    for kept, value in (([[1, 1, 1]], 1.0), ([[1, 0, 0], [0, 0, 0], [1, 0, 0]], 0.0)):
        trainer.put(metrics, kept, **{"clip_ratio/low_mean": value, "kl": value})
    metrics.log()
    logged = trainer._metrics["train"]
    assert logged["clip_ratio/low_mean"] == [0.25]
    assert logged["kl"] == [3 / 5]


def test_processes_are_merged_once_in_a_step() -> None:
    trainer = Trainer(theirs=[[2.0, 6.0], [0.125, 1.0]])
    metrics = StepMetrics(trainer)
    trainer.put(metrics, [[1, 1]], entropy=4.0, low_min=0.5)
    metrics.log()
    logged = trainer._metrics["train"]
    assert logged["entropy"] == [pytest.approx((2 * 4.0 + 6 * 2.0) / 8)]
    assert logged["low_min"] == [0.125]


def test_without_a_token_a_mean_is_what_the_undivided_step_logs() -> None:
    trainer = Trainer()
    metrics = StepMetrics(trainer)
    trainer.put(metrics, [[0, 0]], entropy=0.0)
    metrics.log()
    assert trainer._metrics["train"]["entropy"] == [0.0]
