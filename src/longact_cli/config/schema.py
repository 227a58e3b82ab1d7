"""The typed, frozen configuration of one cell. Every number is checked here and nowhere else."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
Lengths = Annotated[tuple[Positive, ...], Field(min_length=1)]


class _Frozen(BaseModel):
    """Unknown keys are refused; values cannot change after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(_Frozen):
    """Which causal language model, and how its weights are loaded."""

    name: str
    path: str | None = None
    """Local folder or hub id; null means the embedded micro model."""
    revision: str | None = None
    max_context: Positive | None = None
    """Upper bound on prompt + completion, in tokens; null means the model's own window."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    trust_remote_code: bool = False


class DataConfig(_Frozen):
    """Training prompts: RULER-like tasks, generated with keys that evaluation never uses."""

    name: str
    tasks: Names
    context_lengths: Lengths
    """Prompt + answer budget of each generated prompt, in tokens, as RULER counts it."""
    chat_template: bool = True
    reward: str = "string_match"


class AlgorithmConfig(_Frozen):
    """The RL (or SFT) algorithm with every default that it relies on."""

    name: str
    kind: Literal["grpo", "sft"]
    loss_type: Literal["grpo", "dapo", "bnpo", "dr_grpo"]
    importance_sampling_level: Literal["token", "sequence"]
    scale_rewards: Literal["group", "batch", "none"]
    clip_low: Annotated[float, Field(gt=0.0)]
    clip_high: Annotated[float, Field(gt=0.0)]
    kl_coef: Annotated[float, Field(ge=0.0)]
    mask_truncated_completions: bool
    steps: Positive
    prompts_per_step: Positive
    group_size: Annotated[int, Field(ge=2)]
    micro_batch_size: Positive
    """Rollouts per backward pass; must divide prompts_per_step x group_size."""
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
    """Read a group's common prompt once per pass. Same losses up to float rounding; needs memory
    for a mask of (prompt + group_size x completion)^2 bytes per prompt."""
    checkpoint_every: Positive
    """In optimizer steps; a multiple of updates_per_rollout, since only there resume is exact."""

    @model_validator(mode="after")
    def _divides(self) -> "AlgorithmConfig":
        rollouts = self.prompts_per_step * self.group_size
        if rollouts % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size is {self.micro_batch_size}; it must divide "
                f"prompts_per_step x group_size = {rollouts}"
            )
        if self.checkpoint_every % self.updates_per_rollout:
            raise ValueError(
                f"checkpoint_every is {self.checkpoint_every}; it must be a multiple of "
                f"updates_per_rollout = {self.updates_per_rollout}"
            )
        if self.steps % self.updates_per_rollout:
            raise ValueError(
                f"steps is {self.steps}; it must be a multiple of "
                f"updates_per_rollout = {self.updates_per_rollout}"
            )
        return self


class MaskConfig(_Frozen):
    """Which query/key rows are updated."""

    strategy: str
    sparsity: Fraction
    """Fraction of rows that ARE updated: 0.3 updates 30 %; 1 is dense, 0 freezes all q/k rows."""
    statistic: Literal["mean_abs"] = "mean_abs"
    site: Literal["proj", "norm"] = "norm"
    targets: Annotated[tuple[Literal["q", "k"], ...], Field(min_length=1)] = ("q", "k")
    refresh_every: Positive = 1
    """Recompute the mask every this many optimizer steps."""


class BenchmarkConfig(_Frozen):
    """Which questions a checkpoint is asked, and how."""

    name: str
    protocol: Literal["official"] = "official"
    tasks: Names
    context_lengths: Lengths
    """Prompt + answer, in tokens, at most."""
    limit: Positive
    """Questions per task and context length."""
    seed: int = 0
    chat_template: bool = True
    mode: str = "prefix"
    """Variant of the protocol. ruler: prefix, no-prefix, base. longbench-v2: zero-shot, cot,
    no-context. infinitebench: the prompt family gpt4, claude2, kimi or yarn-mistral."""
    scorer: str = "official"
    """Version of the scorer, where a benchmark has several (infinitebench: 2024-06, 2024-08)."""
    generation: Literal["official", "chat"] = "official"
    """Answer budgets of infinitebench: the published ones, or longer ones for chat models."""
    max_prompt_tokens: Positive | None = None
    """Longer prompts are cut in the middle; null cuts at what the context length leaves."""
    compensated: bool = False
    """longbench-v2: score an answer that cannot be read as a guess, 0.25."""
    thinking_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens for thoughts before the answer, on top of the answer budget; 0 turns thinking off."""
    data_dir: str | None = None
    """Folder with the benchmark's files; null asks the hub."""
    backend: Literal["hf", "vllm", "openai"] = "hf"
    base_url: str | None = None
    """Address of an OpenAI-compatible server, e.g. http://localhost:8000/v1."""
    batch_size: Positive = 16


class ExecutorConfig(_Frozen):
    """How cells are run. Not part of the science: never enters a digest."""

    name: Literal["local"]
    workers: Positive
    threads_per_worker: Positive


class RunConfig(_Frozen):
    """Everything that defines one train-then-evaluate cell."""

    model: ModelConfig
    data: DataConfig
    algorithm: AlgorithmConfig
    mask: MaskConfig
    benchmark: BenchmarkConfig
    executor: ExecutorConfig
    seed: Annotated[int, Field(ge=0, lt=2**31)]
