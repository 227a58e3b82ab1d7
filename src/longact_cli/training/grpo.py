"""GRPO-family training on TRL, with the row mask between forward and optimizer.

Every TRL argument a result depends on is set here or in the configuration; none is left to its
default. Contract tests hold the few internals of TRL that this file counts on.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from longact_cli.config.schema import AlgorithmConfig
from longact_cli.errors import ConfigError
from longact_cli.masking.schedule import MaskSchedule
from longact_cli.training.callbacks import MaskCallback
from longact_cli.training.checkpoints import KEEP_LAST
from longact_cli.training.rollout import shared_prefix_rollout
from longact_cli.training.shared_prefix import (
    completion_log_probs,
    pack,
    shares_prompts,
    supports_shared_prefix,
)


class LongActGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPO trainer that takes each step's mask from that step's prompts."""

    def __init__(
        self,
        model: PreTrainedModel,
        schedule: MaskSchedule,
        *,
        share_prompt_prefix: bool,
        **arguments: Any,
    ) -> None:
        """Create the trainer.

        Args:
            model: The policy, float32.
            schedule: Masks of this model.
            share_prompt_prefix: Read the prompt of a group once per pass where that is possible.
            arguments: Passed on to TRL; its callbacks run after the mask's own.

        Raises:
            ConfigError: The model is sharded, where the mask cannot act.
        """
        self._schedule = schedule
        self._share_prompt_prefix = share_prompt_prefix
        self._mask_callback = MaskCallback(schedule)
        arguments["callbacks"] = [self._mask_callback, *arguments.get("callbacks", ())]
        if share_prompt_prefix and not arguments["args"].use_vllm:
            arguments["rollout_func"] = shared_prefix_rollout
        with warnings.catch_warnings():
            # A contract test holds rollout_func; the reader of a log cannot act on the warning.
            warnings.filterwarnings("ignore", message=".*'rollout_func'.*experimental")
            super().__init__(model=model, **arguments)
        self.remove_callback(PrinterCallback)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ConfigError(
                "the row mask supports one process or DDP, not FSDP or DeepSpeed; "
                "start without an accelerate sharding config"
            )

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """Probe this micro-batch's prompts, arm the mask in the last one, compute the loss."""
        if torch.is_grad_enabled():
            step = self.state.global_step
            self._schedule.observe(step, inputs["prompt_ids"], inputs["prompt_mask"])
            if self.accelerator.sync_gradients:
                self._schedule.arm(step, self._sum_over_processes())
        loss: Tensor = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log what the mask did beside the trainer's own metrics."""
        report = self._mask_callback.take_report()
        if report is not None:
            logs = {**logs, **report.metrics()}
            if report.kept_norm is not None and logs.get("grad_norm"):
                logs["mask/qk_share_of_grad_norm"] = report.kept_norm / logs["grad_norm"]
        super().log(logs, start_time)

    def create_model_card(self, *_: object, **__: object) -> None:
        """Write no model card into checkpoints; the saved model carries its own provenance."""

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *arguments: Any,
        **keywords: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Score completions; those of one prompt in one pass where that is possible.

        TRL scores every position of every sequence on devices without Triton, prompts included.
        """
        prompt = input_ids.shape[1] - logits_to_keep
        if not self._can_share(model, input_ids[:, :prompt]):
            result: tuple[Tensor, Tensor | None, Tensor | None] = (
                super()._get_per_token_logps_and_entropies(
                    model, input_ids, attention_mask, logits_to_keep, *arguments, **keywords
                )
            )
            return result
        size = keywords.get("batch_size") or len(input_ids)
        chunks = [
            self._score_shared(model, ids, mask, prompt)
            for ids, mask in zip(
                torch.split(input_ids, size), torch.split(attention_mask, size), strict=True
            )
        ]
        log_probs, entropies = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        return log_probs, entropies if keywords.get("compute_entropy") else None, None

    def _can_share(self, model: Any, prompt_ids: Tensor) -> bool:
        # Around a wrapped model (DDP) the base model would skip the wrapper's forward.
        return (
            self._share_prompt_prefix
            and self.accelerator.num_processes == 1
            and supports_shared_prefix(model)
            and shares_prompts(prompt_ids)
        )

    def _score_shared(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, prompt: int
    ) -> tuple[Tensor, Tensor]:
        packed = pack(
            input_ids[:, :prompt],
            attention_mask[:, :prompt],
            completion_ids=input_ids[:, prompt:],
            completion_mask=attention_mask[:, prompt:],
        )
        with self.accelerator.autocast():
            return completion_log_probs(
                model, packed, input_ids[:, prompt:], temperature=self.temperature
            )

    def _sum_over_processes(self) -> Any:
        if self.accelerator.num_processes == 1:
            return None
        return lambda tensor: self.accelerator.reduce(tensor, reduction="sum")


def grpo_arguments(algorithm: AlgorithmConfig, *, folder: Path, seed: int) -> GRPOConfig:
    """Return TRL's arguments for an algorithm.

    Args:
        algorithm: The whole algorithm section of the configuration.
        folder: Where checkpoints go.
        seed: Of sampling and of the order of rollouts.
    """
    rollouts = algorithm.prompts_per_step * algorithm.group_size
    accumulation = rollouts // algorithm.micro_batch_size
    return GRPOConfig(
        output_dir=str(folder),
        seed=seed,
        **_batches(algorithm, accumulation),
        **_loss(algorithm),
        **_optimizer(algorithm),
        **_generation(algorithm),
        **_bookkeeping(algorithm),
    )


def _batches(algorithm: AlgorithmConfig, accumulation: int) -> Mapping[str, Any]:
    return {
        "max_steps": algorithm.steps,
        "per_device_train_batch_size": algorithm.micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        # TRL's default equals gradient_accumulation_steps: exactly on-policy, clipping never acts.
        "steps_per_generation": algorithm.updates_per_rollout * accumulation,
        "num_iterations": 1,
        "num_generations": algorithm.group_size,
        # Prompt i belongs to the same step in every run, so arms with one seed are paired.
        "shuffle_dataset": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "remove_unused_columns": False,
        "use_cpu": not torch.cuda.is_available(),
    }


def _loss(algorithm: AlgorithmConfig) -> Mapping[str, Any]:
    return {
        "loss_type": algorithm.loss_type,
        "importance_sampling_level": algorithm.importance_sampling_level,
        "scale_rewards": algorithm.scale_rewards,
        "multi_objective_aggregation": "sum_then_normalize",
        "epsilon": algorithm.clip_low,
        "epsilon_high": algorithm.clip_high,
        "delta": None,
        "beta": algorithm.kl_coef,
        "use_bias_correction_kl": False,
        "sync_ref_model": False,
        "mask_truncated_completions": algorithm.mask_truncated_completions,
        "top_entropy_quantile": 1.0,
        "entropy_coef": 0.0,
        "use_adaptive_entropy": False,
        "off_policy_mask_threshold": None,
        # With dropout the first update's importance ratios would differ from 1.
        "disable_dropout": True,
        "cast_lm_head_to_fp32": False,
    }


def _optimizer(algorithm: AlgorithmConfig) -> Mapping[str, Any]:
    return {
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


def _bookkeeping(algorithm: AlgorithmConfig) -> Mapping[str, Any]:
    return {
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "log_completions": False,
        "report_to": "none",
        "disable_tqdm": True,
        "eval_strategy": "no",
        "save_strategy": "steps",
        "save_steps": algorithm.checkpoint_every,
        "save_total_limit": KEEP_LAST,
        "save_only_model": False,
        "push_to_hub": False,
    }
