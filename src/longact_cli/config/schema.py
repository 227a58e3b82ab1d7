"""The typed, frozen configuration of one cell. Every number is checked here and nowhere else."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.config.base import Fraction, Lengths, Names, Positive
from longact_cli.config.base import Frozen as _Frozen


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
    """Training prompts, generated with keys that evaluation never uses or read from a dataset."""

    name: str
    tasks: Names
    """Generated tasks, used in turn; a dataset in `path` replaces them."""
    context_lengths: Lengths
    """Prompt + answer budget of each generated prompt, in tokens, as RULER counts it."""
    path: str | None = None
    """JSON Lines file, or a dataset folder or hub id, with columns `prompt` and `answer`."""
    split: str = "train"
    """Which split of a dataset folder or hub id."""
    curriculum_prompts: Annotated[int, Field(ge=0)] = 0
    """Over this many prompts the context lengths grow from the shortest to all; 0: all at once."""
    chat_template: bool = True
    reward: str = "string_match"
    """The accuracy of a rollout, 0..1, with weight 1; dynamic sampling looks at it alone."""
    extra_rewards: dict[str, float] = Field(default_factory=dict)
    """More rewards, each with its weight, e.g. {format: 0.1}."""


class MaskConfig(_Frozen):
    """Which query/key rows are updated."""

    strategy: str
    sparsity: Fraction
    """Fraction of rows that ARE updated: 0.3 updates 30 %; 1 is dense, 0 freezes all q/k rows.
    With `mass`, at most that fraction."""
    mass: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Update the smallest set of rows that holds this share of the scores' sum; the fraction that
    comes out is logged as mask/update_ratio."""
    scope: Literal["matrix", "head", "global"] = "matrix"
    """Within what the rows are counted out."""
    statistic: Literal["mean_abs", "rms", "max_abs", "p99"] = "mean_abs"
    site: Literal["proj", "norm", "rope_pair"] = "norm"
    targets: Annotated[tuple[Literal["q", "k", "v", "o"], ...], Field(min_length=1)] = ("q", "k")
    refresh_every: Annotated[int, Field(ge=0)] = 1
    """Recompute the mask every this many optimizer steps; 0 takes one mask for the whole run."""
    update_semantics: Literal["gradient", "strict"] = "gradient"
    """gradient: only gradients are masked; strict: masked rows do not move at all."""
    prompts: Literal["training", "long", "short", "file"] = "training"
    """What activations are measured on; long and short are generated at `prompt_length`."""
    prompt_length: Positive | None = None
    """Context length of long and short prompts, in tokens; null: the window, and an eighth."""
    prompts_file: str | None = None
    """JSON lines with a `prompt` each, for prompts=file."""
    file: str | None = None
    """Saved mask, for strategy=file."""

    @model_validator(mode="after")
    def _has_its_files(self) -> "MaskConfig":
        if (self.strategy == "file") != (self.file is not None):
            raise ValueError(
                f"strategy is {self.strategy} and file is {self.file}; the strategy 'file' needs a "
                "saved mask, and no other strategy reads one"
            )
        if (self.prompts == "file") != (self.prompts_file is not None):
            raise ValueError(
                f"prompts is {self.prompts} and prompts_file is {self.prompts_file}; prompts=file "
                "needs a file of JSON lines, and no other choice reads one"
            )
        return self


class BenchmarkConfig(_Frozen):
    """Which questions a checkpoint is asked, and how."""

    name: str
    protocol: Literal["official", "lm-eval"] = "official"
    """The authors' own rules, or lm-eval's tasks, for comparison."""
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
    data_sha256: str | None = None
    """Hash of these files, filled in when a plan is made; another hash in the folder is refused."""
    backend: Literal["hf", "vllm", "openai"] = "hf"
    base_url: str | None = None
    """Address of an OpenAI-compatible server, e.g. http://localhost:8000/v1."""
    yarn_factor: Annotated[float, Field(gt=1.0)] | None = None
    """Extend the model's window by YaRN, e.g. 4 for Qwen3 beyond 32768; null leaves it alone."""
    yarn_original: Positive | None = None
    """Positions that YaRN multiplies; null: 32768 where the window is 40960 (Qwen3), else it."""
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
