"""TRL's arguments from the algorithm section; nothing a result depends on is left to a default."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.training.checkpoints import KEEP_LAST

if TYPE_CHECKING:
    from trl import GRPOConfig, SFTConfig

OPEN_BELOW = 1.0
"""A ratio is never below 0 = 1 - 1: this lower bound leaves it open."""
OPEN_ABOVE = 1.0e30


def grpo_arguments(
    algorithm: AlgorithmConfig,
    *,
    folder: Path,
    seed: int,
    reward_weights: tuple[float, ...] = (1.0,),
) -> "GRPOConfig":
    """Return TRL's arguments for an RL algorithm.

    Args:
        algorithm: The whole algorithm section of the configuration.
        folder: Where checkpoints go.
        seed: Of sampling and of the order of rollouts.
        reward_weights: One for each reward function.
    """
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder),
        seed=seed,
        reward_weights=list(reward_weights),
        **_rollouts(algorithm),
        **_loss(algorithm),
        **_generation(algorithm),
        **_common(algorithm),
    )


def sft_arguments(algorithm: AlgorithmConfig, *, folder: Path, seed: int) -> "SFTConfig":
    """Return TRL's arguments for supervised fine-tuning; the loss is the mean over answer tokens.

    Args:
        algorithm: The whole algorithm section of the configuration.
        folder: Where checkpoints go.
        seed: Of the trainer; nothing is drawn.
    """
    from trl import SFTConfig

    micro_batch = min(algorithm.micro_batch_size, algorithm.prompts_per_step)
    return SFTConfig(
        output_dir=str(folder),
        seed=seed,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=algorithm.prompts_per_step // micro_batch,
        # Prompt i belongs to the same step in every run, so arms with one seed are paired.
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        loss_type="nll",
        packing=False,
        padding_free=False,
        max_length=None,
        activation_offloading=False,
        neftune_noise_alpha=None,
        **_common(algorithm),
    )


def accumulation_steps(algorithm: AlgorithmConfig) -> int:
    """Return the micro-batches of one optimizer step."""
    return algorithm.prompts_per_step * algorithm.group_size // algorithm.micro_batch_size


def _rollouts(algorithm: AlgorithmConfig) -> Mapping[str, Any]:
    accumulation = accumulation_steps(algorithm)
    return {
        "per_device_train_batch_size": algorithm.micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        # TRL's default equals gradient_accumulation_steps: exactly on-policy, clipping never acts.
        "steps_per_generation": algorithm.updates_per_rollout * accumulation,
        "num_iterations": 1,
        "num_generations": algorithm.group_size,
        # Prompt i belongs to the same step in every run, so arms with one seed are paired.
        "shuffle_dataset": False,
        # With dropout the first update's importance ratios would differ from 1.
        "disable_dropout": True,
        "log_completions": False,
    }


def _loss(algorithm: AlgorithmConfig) -> Mapping[str, Any]:
    low, high = algorithm.clip_low, algorithm.clip_high
    upper = OPEN_ABOVE if high is None else high
    return {
        "loss_type": algorithm.loss_type,
        "importance_sampling_level": algorithm.importance_sampling_level,
        "scale_rewards": algorithm.scale_rewards,
        "multi_objective_aggregation": "sum_then_normalize",
        "epsilon": OPEN_BELOW if low is None else low,
        # TRL takes the bound itself for CISPO and its distance from 1 for all others.
        "epsilon_high": 1 + upper if algorithm.loss_type == "cispo" else upper,
        "delta": None,
        "beta": algorithm.kl_coef,
        "use_bias_correction_kl": False,
        "sync_ref_model": False,
        "mask_truncated_completions": algorithm.mask_truncated_completions,
        "top_entropy_quantile": 1.0,
        "entropy_coef": 0.0,
        "use_adaptive_entropy": False,
        "off_policy_mask_threshold": None,
        "cast_lm_head_to_fp32": False,
    }


def _generation(algorithm: AlgorithmConfig) -> Mapping[str, Any]:
    return {
        "max_completion_length": algorithm.max_completion_tokens,
        "temperature": algorithm.temperature,
        "top_p": algorithm.top_p,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "use_vllm": algorithm.use_vllm,
        "vllm_mode": "colocate",
        "vllm_importance_sampling_correction": True,
        # TRL's default sums log-ratios over a sequence: the longer, the more of them are dropped.
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": 3.0,
    }


def _common(algorithm: AlgorithmConfig) -> Mapping[str, Any]:
    return {
        "max_steps": algorithm.steps,
        # Not the fused kernel: the same code path on every device, and 3 % of a step at most.
        "optim": "adamw_torch",
        "learning_rate": algorithm.learning_rate,
        "lr_scheduler_type": algorithm.lr_schedule,
        "warmup_steps": algorithm.warmup_steps,
        "weight_decay": algorithm.weight_decay,
        "adam_beta1": algorithm.adam_beta1,
        "adam_beta2": algorithm.adam_beta2,
        "adam_epsilon": 1e-8,
        "max_grad_norm": algorithm.max_grad_norm,
        "gradient_checkpointing": algorithm.gradient_checkpointing,
        "bf16": algorithm.bf16,
        "fp16": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "remove_unused_columns": False,
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "eval_strategy": "no",
        "save_strategy": "steps",
        "save_steps": algorithm.checkpoint_every,
        "save_total_limit": KEEP_LAST,
        "save_only_model": False,
        "push_to_hub": False,
    }
