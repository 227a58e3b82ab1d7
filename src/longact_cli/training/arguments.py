"""TRL's arguments from the algorithm section; nothing a result depends on is left to a default."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import torch

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.config.schema import ParallelConfig
from longact_cli.training.checkpoints import KEEP_LAST

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from trl import GRPOConfig, SFTConfig

Trained = TypeVar("Trained", bound="TrainingArguments")
OPEN_BELOW = 1.0
"""A ratio is never below 0 = 1 - 1: this lower bound leaves it open."""
OPEN_ABOVE = 1.0e30
ONE_PROCESS = ParallelConfig()


class EngineSettings(NamedTuple):
    """Where vLLM generates rollouts.

    Attributes:
        mode: An engine in every training process, or a server beside them.
        gpus: Tensor-parallel size.
        memory: Share of a GPU's memory.
        sleep: Whether the engine gives its memory back between rollouts.
        longest: Prompt and completion, in tokens, at most.
        base_url: Address of the server; None without one.
    """

    mode: Literal["colocate", "server"] = "colocate"
    gpus: int = 1
    memory: float = 0.3
    sleep: bool = False
    longest: int | None = None
    base_url: str | None = None


OWN_ENGINE = EngineSettings()


def grpo_arguments(
    algorithm: AlgorithmConfig,
    *,
    folder: Path,
    seed: int,
    reward_weights: tuple[float, ...] = (1.0,),
    parallel: ParallelConfig = ONE_PROCESS,
    engine: EngineSettings = OWN_ENGINE,
) -> "GRPOConfig":
    """Return TRL's arguments for an RL algorithm.

    Args:
        algorithm: The whole algorithm section of the configuration.
        folder: Where checkpoints go.
        seed: Of sampling and of the order of rollouts.
        reward_weights: One for each reward function.
        parallel: How many processes share a step.
        engine: Where vLLM generates, if it does.
    """
    from trl import GRPOConfig

    return _with_precision(
        GRPOConfig(
            output_dir=str(folder),
            seed=seed,
            reward_weights=list(reward_weights),
            **_rollouts(algorithm, parallel.processes),
            **_loss(algorithm),
            **_generation(algorithm, engine),
            **_common(algorithm),
            **_sharding(parallel),
        )
    )


def sft_arguments(
    algorithm: AlgorithmConfig,
    *,
    folder: Path,
    seed: int,
    parallel: ParallelConfig = ONE_PROCESS,
) -> "SFTConfig":
    """Return TRL's arguments for supervised fine-tuning; the loss is the mean over answer tokens.

    Args:
        algorithm: The whole algorithm section of the configuration.
        folder: Where checkpoints go.
        seed: Of the trainer; nothing is drawn.
        parallel: How many processes share a step.
    """
    from trl import SFTConfig

    prompts = algorithm.prompts_per_step // parallel.processes
    micro_batch = _largest_divisor(prompts, algorithm.micro_batch_size)
    arguments = SFTConfig(
        output_dir=str(folder),
        seed=seed,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=prompts // micro_batch,
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
        **_sharding(parallel),
    )
    return _with_precision(arguments)


def accumulation_steps(algorithm: AlgorithmConfig, processes: int = 1) -> int:
    """Return the micro-batches of one optimizer step on each process."""
    rollouts = algorithm.prompts_per_step * algorithm.group_size // processes
    return rollouts // algorithm.micro_batch(processes)


def _largest_divisor(number: int, most: int) -> int:
    return max(size for size in range(1, min(number, most) + 1) if number % size == 0)


def _sharding(parallel: ParallelConfig) -> Mapping[str, Any]:
    if parallel.sharding == "ddp":
        # With True the buckets of DDP keep their order for the whole run, resumed or not; the
        # order decides how a sum over more than two processes is rounded.
        return {"ddp_find_unused_parameters": True} if parallel.processes > 1 else {}
    # Whole weights in every checkpoint would take all of them through one process.
    return {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}}


def _with_precision(arguments: "Trained") -> "Trained":
    """Reduce gradients in float32 under FSDP2: accelerate's bf16 policy would round every sum."""
    if arguments.fsdp_plugin_args is not None and arguments.bf16:
        from torch.distributed.fsdp import MixedPrecisionPolicy

        arguments.fsdp_plugin_args["mixed_precision_policy"] = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32
        )
    return arguments


def _rollouts(algorithm: AlgorithmConfig, processes: int) -> Mapping[str, Any]:
    accumulation = accumulation_steps(algorithm, processes)
    return {
        "per_device_train_batch_size": algorithm.micro_batch(processes),
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


def _generation(algorithm: AlgorithmConfig, engine: EngineSettings) -> Mapping[str, Any]:
    return {
        "max_completion_length": algorithm.max_completion_tokens,
        "temperature": algorithm.temperature,
        "top_p": algorithm.top_p,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "use_vllm": algorithm.use_vllm,
        "vllm_mode": engine.mode,
        "vllm_server_base_url": engine.base_url,
        "vllm_tensor_parallel_size": engine.gpus,
        "vllm_gpu_memory_utilization": engine.memory,
        "vllm_max_model_length": engine.longest,
        "vllm_enable_sleep_mode": engine.sleep,
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
        "activation_checkpointing": algorithm.gradient_checkpointing,
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
