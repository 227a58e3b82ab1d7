"""The algorithm section: loss, sampling of prompts, sizes and optimizer of one training run."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from longact_cli.config.base import Fraction, Frozen, Positive

TOKEN_MEAN_LOSSES = ("dapo", "bnpo", "cispo")
"""Losses in which a completion without counted tokens leaves the denominator."""


class AlgorithmConfig(Frozen):
    """The RL (or SFT) algorithm with every default that it relies on."""

    name: str
    kind: Literal["grpo", "sft"]
    loss_type: Literal["grpo", "dapo", "bnpo", "dr_grpo", "cispo"]
    importance_sampling_level: Literal["token", "sequence"]
    scale_rewards: Literal["group", "batch", "none"]
    clip_low: Annotated[float, Field(gt=0.0)] | None
    """The importance ratio is clipped to [1 - clip_low, 1 + clip_high]; null leaves it open."""
    clip_high: Annotated[float, Field(gt=0.0)] | None
    kl_coef: Annotated[float, Field(ge=0.0)]
    mask_truncated_completions: bool
    covariance: Literal["none", "clip_cov", "kl_cov"] = "none"
    """What happens to tokens with a high covariance of log-probability and advantage."""
    cov_ratio: Fraction = 0.0
    """Fraction of an optimizer step's completion tokens that is selected; at least one token."""
    cov_low: float = 1.0
    """Clip-Cov draws from tokens whose covariance lies strictly between cov_low and cov_high."""
    cov_high: float = 5.0
    cov_kl_coef: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of KL-Cov's penalty |log-prob - old log-prob| on the selected tokens."""
    dynamic_sampling: Literal["none", "filter", "refill"] = "none"
    """Groups whose rewards are all equal: kept, left out of the loss, or replaced by new ones."""
    max_generation_batches: Positive = 10
    """Generations for one set of rollouts; what is missing then stays out of the loss."""
    overlong_cache: Fraction = 0.0
    """Soft overlong punishment: the last part of max_completion_tokens in which the reward falls
    by up to 1 (DAPO: 4096 of 20480 tokens = 0.2); 0 is off."""
    force: bool = False
    """Run settings in which a part of the algorithm cannot act."""
    steps: Positive
    prompts_per_step: Positive
    group_size: Positive
    micro_batch_size: Positive
    """Rollouts per backward pass and process; must divide prompts_per_step x group_size. With
    several processes at most all that one has."""
    micro_batch_tokens: Positive | None = None
    """Tokens per backward pass and process, padding included, instead of micro_batch_size: one long
    rollout or many short ones fill it. A longer rollout goes alone; null counts rollouts."""
    updates_per_rollout: Positive
    """Optimizer steps taken on one set of rollouts; 1 is exactly on-policy and never clips."""
    max_completion_tokens: Positive
    temperature: Annotated[float, Field(gt=0.0)]
    top_p: Annotated[float, Field(gt=0.0, le=1.0)]
    learning_rate: Annotated[float, Field(gt=0.0)]
    lr_schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"]
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0.0)]
    adam_beta1: Annotated[float, Field(ge=0.0, lt=1.0)]
    adam_beta2: Annotated[float, Field(ge=0.0, lt=1.0)]
    max_grad_norm: Annotated[float, Field(gt=0.0)]
    gradient_checkpointing: bool
    bf16: bool
    """Run forward passes in bfloat16 autocast; master weights are float32 either way."""
    use_vllm: bool
    share_prompt_prefix: bool
    """Read a group's common prompt once per pass. Same losses and gradients up to float rounding; a
    model where that is not so is trained as with false, which is TRL's own path, and says why. With
    fsdp2 it acts on everything but generation without vLLM."""
    prefix_attention: Literal["sdpa", "flex"] = "sdpa"
    """How completions look at a shared prompt on a GPU: one SDPA call with a mask, or torch's
    FlexAttention, compiled when training starts, which needs none. Same results up to float
    rounding; where FlexAttention does not run, SDPA is taken and the log says why."""
    whole_groups: bool = False
    """Each optimizer step takes whole groups of the rollouts that it shares with other steps, and
    each micro-batch as few prompts as it can; TRL deals out single rollouts. Shared prompts then
    save in full with several updates_per_rollout or micro-batches."""
    checkpoint_every: Positive
    """In optimizer steps; a multiple of updates_per_rollout, since only there resume is exact."""

    def micro_batch(self, processes: int) -> int:
        """Return the rollouts that each of so many processes is handed at once.

        A micro-batch, or with a budget of tokens the whole step, which the trainer divides.
        """
        rollouts = self.prompts_per_step * self.group_size // processes
        return rollouts if self.fills_tokens else min(self.micro_batch_size, rollouts)

    @property
    def fills_tokens(self) -> bool:
        """Whether micro-batches are made by tokens; supervised training counts prompts."""
        return self.micro_batch_tokens is not None and self.kind != "sft"

    @model_validator(mode="after")
    def _divides(self) -> "AlgorithmConfig":
        rollouts = self.prompts_per_step * self.group_size
        if not self.fills_tokens and rollouts % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size is {self.micro_batch_size}; it must divide "
                f"prompts_per_step x group_size = {rollouts}"
            )
        for key in ("checkpoint_every", "steps"):
            if getattr(self, key) % self.updates_per_rollout:
                raise ValueError(
                    f"{key} is {getattr(self, key)}; it must be a multiple of "
                    f"updates_per_rollout = {self.updates_per_rollout}"
                )
        return self

    @model_validator(mode="after")
    def _acts(self) -> "AlgorithmConfig":
        if self.kind != "sft":
            complaint = _rl_complaint(self)
            if complaint:
                raise ValueError(complaint)
        return self


def _rl_complaint(config: AlgorithmConfig) -> str | None:
    """Return what keeps a part of the RL algorithm from acting as it is published, if anything."""
    if config.group_size < 2:
        return "group_size is 1; advantages compare rollouts of one prompt: take at least 2"
    if config.prefix_attention == "flex" and not config.share_prompt_prefix:
        return (
            "prefix_attention is 'flex'; it only acts on shared prompts: set "
            "algorithm.share_prompt_prefix=true or algorithm.prefix_attention=sdpa"
        )
    if config.covariance != "none":
        return _covariance_complaint(config)
    if config.loss_type == "cispo" and config.importance_sampling_level == "sequence":
        return "importance_sampling_level is 'sequence'; loss_type cispo needs 'token'"
    if config.dynamic_sampling != "none" and config.scale_rewards == "batch":
        return (
            "scale_rewards is 'batch'; with dynamic_sampling the batch is only known afterwards: "
            "use 'group' or 'none'"
        )
    if config.dynamic_sampling == "filter" and config.loss_type not in TOKEN_MEAN_LOSSES:
        return (
            f"dynamic_sampling is 'filter', which does nothing to loss_type {config.loss_type}: "
            f"use 'refill', or a loss_type of {', '.join(TOKEN_MEAN_LOSSES)}"
        )
    return None


def _covariance_complaint(config: AlgorithmConfig) -> str | None:
    if config.loss_type != "dapo" or config.importance_sampling_level != "token":
        return (
            f"covariance is '{config.covariance}'; it is defined for the mean over tokens: "
            "use loss_type=dapo and importance_sampling_level=token"
        )
    if not config.cov_ratio:
        return f"cov_ratio is 0; covariance '{config.covariance}' would select no token"
    if config.covariance == "clip_cov":
        return None
    if config.clip_low is not None or config.clip_high is not None:
        return "clip_low and clip_high must be null; covariance 'kl_cov' replaces the clip"
    if not config.cov_kl_coef:
        return "cov_kl_coef is 0; covariance 'kl_cov' would penalise nothing"
    if config.updates_per_rollout == 1 and not config.force:
        return (
            "updates_per_rollout is 1, where the penalty of covariance 'kl_cov' and its gradient "
            "are exactly 0: use at least 2, or set algorithm.force=true"
        )
    return None
