"""Reward curves of a study: the mean over seeds at each step, with its uncertainty."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from longact_cli.reporting.arms import Arm
from longact_cli.reporting.statistics import Floats
from longact_cli.tracking.query import TrackedCell, read_curves

REWARD = "reward"
WINDOW = 5
FEW_SEEDS = 3


class Curve(NamedTuple):
    """The reward of one arm by step.

    `low` and `high` are the 95 % t interval over seeds from three seeds on; they span two seeds,
    and equal `mean` for one. All arrays are `[steps]`, in units of reward.
    """

    label: str
    n_seeds: int
    steps: Floats
    mean: Floats
    low: Floats
    high: Floats


def reward_curves(
    uri: str, cells: Iterable[TrackedCell], arms: Iterable[Arm], *, most: int | None = None
) -> tuple[Curve, ...]:
    """Return one curve per arm that was trained, smoothed over `WINDOW` logged steps.

    Only finished train cells count, and only steps that all seeds of an arm have logged.

    Args:
        uri: MLflow tracking URI.
        cells: The cells of the study.
        arms: Its arms.
        most: How many curves at most, the first ones; no more are read.

    Raises:
        TrackingError: MLflow failed.
    """
    trained = {cell.digest: cell for cell in cells if cell.stage == "train"}
    runs: dict[frozenset[str], Arm] = {}
    for arm in arms:
        parents = frozenset(cell.parent for cell in arm.cells if cell.parent in trained)
        if parents:
            runs.setdefault(parents, arm)
    several = len({arm.section[:2] for arm in runs.values()}) > 1
    found: list[Curve] = []
    waiting = list(runs.items())
    while waiting and (most is None or len(found) < most):
        part, waiting = waiting[:most], waiting[most:] if most else []
        digests = sorted({digest for parents, _ in part for digest in parents})
        rewards = _rewards(uri, [trained[digest] for digest in digests])
        for parents, arm in part:
            points = [rewards[digest] for digest in sorted(parents) if rewards.get(digest)]
            found += [_curve(arm, points, several)] if points else []
    return tuple(found[:most])


def _rewards(uri: str, cells: Iterable[TrackedCell]) -> dict[str, dict[int, float]]:
    """Return the rewards of each finished cell by step."""
    runs = {cell.digest: cell.run_id for cell in cells if cell.run_id and cell.status == "FINISHED"}
    curves = read_curves(uri, tuple(runs.values()), REWARD)
    return {
        digest: {point.step: point.value for point in curves[run_id]}
        for digest, run_id in runs.items()
    }


def _curve(arm: Arm, runs: list[dict[int, float]], several: bool) -> Curve:
    steps = sorted(set.intersection(*(set(run) for run in runs)))
    values = np.asarray([smooth([run[step] for step in steps]) for run in runs])
    low, high = _band(values)
    name = arm.name if arm.strategy in ("dense", "frozen") else f"{arm.name} {arm.amount}"
    return Curve(
        label=f"{arm.section.model} {arm.section.algorithm} {name}" if several else name,
        n_seeds=len(runs),
        steps=np.asarray(steps, dtype=np.float64),
        mean=values.mean(axis=0),
        low=low,
        high=high,
    )


def _band(values: Floats) -> tuple[Floats, Floats]:
    """Return the band around the mean of `values`, [seeds, steps]."""
    seeds = len(values)
    if seeds < FEW_SEEDS:
        return values.min(axis=0), values.max(axis=0)
    half = float(stdtrit(seeds - 1, 0.975)) * values.std(axis=0, ddof=1) / np.sqrt(seeds)
    mean = values.mean(axis=0)
    return mean - half, mean + half


def smooth(values: Iterable[float]) -> Floats:
    """Return the mean of each value and up to `WINDOW` - 1 before it."""
    series = np.asarray(list(values), dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(series)])
    ends = np.arange(1, len(series) + 1)
    starts = np.maximum(0, ends - WINDOW)
    smoothed: Floats = (sums[ends] - sums[starts]) / (ends - starts)
    return smoothed
