"""Score rollouts for the trainer and keep them as Parquet files, one per set of rollouts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from accelerate.utils import gather_object

from longact_cli.training.rewards import (
    REWARDS,
    overlong_punishment,
    score_completion,
    terminated,
)


class Rollout(NamedTuple):
    """One row of a completions file. The prompt is known by `sample_id` and made again at will."""

    step: int
    sample_id: str
    completion: str
    completion_tokens: int
    terminated: bool
    references: tuple[str, ...]
    match: float
    reward: float


class RewardFunction:
    """The accuracy as the trainer calls it: once per generation of rollouts."""

    __name__ = "accuracy"

    def __init__(self, name: str, *, eos_token_ids: Sequence[int], folder: Path) -> None:
        """Score with the reward called `name` and write rollouts into `folder`.

        Raises:
            UnknownNameError: No reward has that name.
        """
        self._match = REWARDS.get(name)
        self._eos_token_ids = tuple(eos_token_ids)
        self._folder = folder
        self._written: list[Rollout] = []

    def __call__(
        self,
        *,
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        references: Sequence[Sequence[str]],
        sample_id: Sequence[str],
        trainer_state: Any,
        **_: object,
    ) -> list[float]:
        """Return one reward per completion, 0..1.

        Args:
            completions: Decoded texts without special tokens.
            completion_ids: Their tokens, without padding.
            references: Known answers of each completion's prompt.
            sample_id: Name of each completion's prompt.
            trainer_state: Progress of the trainer.
            _: Other columns and helpers that the trainer passes.
        """
        rollouts = [
            self._rollout(trainer_state.global_step, *row)
            for row in zip(completions, completion_ids, references, sample_id, strict=True)
        ]
        everybody = gather_object(rollouts)
        if trainer_state.is_world_process_zero:
            self._keep(everybody)
        return [rollout.reward for rollout in rollouts]

    def _keep(self, rollouts: Sequence[Rollout]) -> None:
        """Write the rollouts; later generations for the same step join its file."""
        if self._written and self._written[0].step != rollouts[0].step:
            self._written = []
        self._written += rollouts
        write_rollouts(self._folder, self._written)

    def _rollout(
        self, step: int, completion: str, ids: Sequence[int], references: Sequence[str], name: str
    ) -> Rollout:
        match = self._match(completion, references)
        ended = terminated(ids, self._eos_token_ids)
        return Rollout(
            step=step,
            sample_id=name,
            completion=completion,
            completion_tokens=len(ids),
            terminated=ended,
            references=tuple(references),
            match=match,
            reward=score_completion(match, ended),
        )


class ExtraReward:
    """A reward besides the accuracy, which the trainer weighs and adds."""

    def __init__(self, name: str, *, eos_token_ids: Sequence[int]) -> None:
        """Score with the reward called `name`.

        Raises:
            UnknownNameError: No reward has that name.
        """
        self.__name__ = name
        self._match = REWARDS.get(name)
        self._eos_token_ids = tuple(eos_token_ids)

    def __call__(
        self,
        *,
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        references: Sequence[Sequence[str]],
        **_: object,
    ) -> list[float]:
        """Return one reward per completion, 0..1; 0 where it did not end by itself."""
        return [
            score_completion(self._match(text, known), terminated(ids, self._eos_token_ids))
            for text, ids, known in zip(completions, completion_ids, references, strict=True)
        ]


class OverlongPunishment:
    """DAPO's soft overlong punishment as the trainer calls it."""

    __name__ = "overlong_punishment"

    def __init__(self, *, longest: int, cache: int) -> None:
        """Punish the last `cache` of `longest` tokens."""
        self._longest = longest
        self._cache = cache

    def __call__(self, *, completion_ids: Sequence[Sequence[int]], **_: object) -> list[float]:
        """Return one punishment per completion, -1..0."""
        return [
            overlong_punishment(len(ids), longest=self._longest, cache=self._cache)
            for ids in completion_ids
        ]


class WeightedReward(NamedTuple):
    """A reward function of the trainer and its weight in the sum."""

    function: Callable[..., list[float]]
    weight: float


def extra_rewards(
    weights: Mapping[str, float], *, eos_token_ids: Sequence[int]
) -> tuple[WeightedReward, ...]:
    """Return the rewards called for by name, in that order.

    Raises:
        UnknownNameError: No reward has one of the names.
    """
    return tuple(
        WeightedReward(ExtraReward(name, eos_token_ids=eos_token_ids), weight)
        for name, weight in weights.items()
    )


def write_rollouts(folder: Path, rollouts: Sequence[Rollout]) -> None:
    """Write `completions_<step>.parquet`; a resumed run replaces the file of the same step."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"completions_{rollouts[0].step:05d}.parquet"
    temporary = folder / f".{name}"
    pd.DataFrame(rollouts, columns=list(Rollout._fields)).to_parquet(temporary, index=False)
    temporary.replace(folder / name)
