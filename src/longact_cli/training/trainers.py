"""Put a trainer together from the parts of a cell; TRL is imported here and not before."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from longact_cli.config.schema import RunConfig
from longact_cli.evaluation.vllm_cpu import keep_loadable_weights, prepare_vllm_cpu
from longact_cli.masking.schedule import MaskSchedule
from longact_cli.training.arguments import EngineSettings, grpo_arguments, sft_arguments
from longact_cli.training.completions import (
    OverlongPunishment,
    RewardFunction,
    WeightedReward,
    extra_rewards,
)
from longact_cli.training.data import prompt_dataset
from longact_cli.training.dynamic_sampling import RefillPrompts
from longact_cli.training.rewards import overlong_cache_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from longact_cli.training.grpo import LongActGRPOTrainer
    from longact_cli.training.sft import LongActSFTTrainer

SERVER_VARIABLE = "LONGACT_VLLM_URL"
"""Environment variable with the address of the rollout server that a cell has started."""


@dataclass(frozen=True, eq=False)
class TrainerParts:
    """What a trainer is made of.

    Attributes:
        config: The cell.
        model: Its policy, float32.
        tokenizer: The policy's tokenizer.
        schedule: The masks of `model`.
        refill: Where its prompts come from, those of dynamic sampling included.
        eos_token_ids: Every token that ends a completion.
        out: The cell's directory.
        callbacks: In this order, after the mask's own.
    """

    config: RunConfig
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    schedule: MaskSchedule
    refill: RefillPrompts
    eos_token_ids: Sequence[int]
    out: Path
    callbacks: Sequence["TrainerCallback"]


def build_grpo(parts: TrainerParts) -> "LongActGRPOTrainer":
    """Return the trainer of an RL cell.

    Raises:
        UnknownNameError: There is no such reward.
    """
    algorithm = parts.config.algorithm
    if algorithm.use_vllm and not torch.cuda.is_available():
        prepare_vllm_cpu()
        keep_loadable_weights()
    from longact_cli.training.grpo import LongActGRPOTrainer

    rewards = cell_rewards(
        parts.config, eos_token_ids=parts.eos_token_ids, folder=parts.out / "completions"
    )
    arguments = grpo_arguments(
        algorithm,
        folder=parts.out / "checkpoints",
        seed=parts.config.seed,
        reward_weights=tuple(reward.weight for reward in rewards),
        parallel=parts.config.parallel,
        engine=_engine(parts),
    )
    return LongActGRPOTrainer(
        parts.model,
        parts.schedule,
        algorithm=algorithm,
        refill=parts.refill,
        args=arguments,
        train_dataset=prompt_dataset(parts.refill.source, _prompts(parts)),
        processing_class=parts.tokenizer,
        reward_funcs=[reward.function for reward in rewards],
        callbacks=list(parts.callbacks),
    )


def build_sft(parts: TrainerParts) -> "LongActSFTTrainer":
    """Return the trainer of a supervised cell: the same prompts, step by step."""
    from longact_cli.training.sft import LongActSFTTrainer, supervised_dataset

    prompts = prompt_dataset(parts.refill.source, _prompts(parts))
    return LongActSFTTrainer(
        parts.model,
        parts.schedule,
        args=sft_arguments(
            parts.config.algorithm,
            folder=parts.out / "checkpoints",
            seed=parts.config.seed,
            parallel=parts.config.parallel,
        ),
        train_dataset=supervised_dataset(prompts, tokenizer=parts.tokenizer),
        processing_class=parts.tokenizer,
        callbacks=list(parts.callbacks),
    )


def cell_rewards(
    config: RunConfig, *, eos_token_ids: Sequence[int], folder: Path
) -> tuple[WeightedReward, ...]:
    """Return the rewards of a cell: the accuracy first, with weight 1.

    Raises:
        UnknownNameError: There is no such reward.
    """
    algorithm, data = config.algorithm, config.data
    accuracy = RewardFunction(data.reward, eos_token_ids=eos_token_ids, folder=folder)
    rewards = [WeightedReward(accuracy, 1.0)]
    rewards += extra_rewards(data.extra_rewards, eos_token_ids=eos_token_ids)
    if algorithm.overlong_cache:
        longest = algorithm.max_completion_tokens
        cache = overlong_cache_tokens(algorithm.overlong_cache, longest)
        rewards.append(WeightedReward(OverlongPunishment(longest=longest, cache=cache), 1.0))
    return tuple(rewards)


def _engine(parts: TrainerParts) -> EngineSettings:
    """Return where vLLM generates; the cell has put a server's address into the environment."""
    vllm = parts.config.vllm
    return EngineSettings(
        mode=vllm.mode,
        gpus=vllm.gpus,
        memory=vllm.memory,
        sleep=vllm.sleep,
        longest=parts.config.model.max_context,
        base_url=os.environ.get(SERVER_VARIABLE) if vllm.mode == "server" else None,
    )


def _prompts(parts: TrainerParts) -> int:
    return parts.config.algorithm.steps * parts.config.algorithm.prompts_per_step
