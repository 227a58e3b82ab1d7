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


class ParallelConfig(_Frozen):
    """How many processes train a cell together, one for each device."""

    processes: Positive = 1
    """They share every step: prompts_per_step x group_size stays the effective batch."""
    sharding: Literal["ddp", "fsdp2"] = "ddp"
    """ddp: a copy of the model on each device; fsdp2: weights and optimizer states are split."""


class VllmConfig(_Frozen):
    """Where rollouts are generated if `algorithm.use_vllm` is true. Not part of the science."""

    mode: Literal["colocate", "server"] = "colocate"
    """colocate: an engine inside every training process; server: `vllm serve` beside them."""
    gpus: Positive = 1
    """Tensor-parallel size of an engine. server: that many GPUs after those of training."""
    memory: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """Share of each GPU's memory that an engine takes."""
    sleep: bool = False
    """colocate: give the engine's memory back while the model trains."""
    startup_seconds: Positive = 900
    """server: how long it may take until it answers."""


# Options of sbatch that cells depend on, and the setting to use instead where there is one.
_SBATCH_TAKEN = {
    "array": ", and set executor.workers",
    "cpus-per-task": ", and set executor.threads_per_worker",
    "gpus-per-node": ", and set executor.gpus_per_cell",
    "mem": ", and set executor.memory_gb",
    "signal": ", and set executor.signal_seconds",
    "time": ", and set executor.time_minutes",
    **{name: f", and set executor.{name}" for name in ("partition", "account", "qos")},
    **dict.fromkeys(("dependency", "error", "open-mode", "output", "requeue", "no-requeue"), ""),
}


class ExecutorConfig(_Frozen):
    """How cells are run. Not part of the science: never enters a digest."""

    name: Literal["local", "slurm", "ray"]
    workers: Positive
    """Cells side by side; slurm: jobs of an array at a time; ray: cells that run or wait."""
    threads_per_worker: Positive
    """Compute threads, and CPU cores, of a cell."""
    gpus_per_cell: Annotated[int, Field(ge=0)] = 0
    """local: each cell gets this many of CUDA_VISIBLE_DEVICES; 0 leaves all visible to all."""
    memory_gb: Annotated[float, Field(gt=0.0)] | None = None
    """slurm and ray: memory of a cell; null asks for none."""
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    """New tries after a failure the cell did not cause: a signal, preemption, NCCL, ECC."""
    time_minutes: Positive | None = None
    """slurm: time limit of a job; it is requeued at the limit and goes on."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    array_parallelism: Positive | None = None
    """slurm: jobs of one array that may run at the same time; null: as many as workers."""
    signal_seconds: Positive | None = None
    """slurm: so long before the limit a job is told to stop."""
    setup: tuple[str, ...] = ()
    """slurm: shell lines before the cell, e.g. [module load cuda]."""
    sbatch: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """slurm: further sbatch options by name, e.g. {constraint: h100, nice: 100}."""
    address: str | None = None
    """ray: an existing cluster, e.g. auto or ray://head:10001; null starts one here."""

    @model_validator(mode="after")
    def _only_its_own(self) -> "ExecutorConfig":
        owners = {
            "slurm": (
                "time_minutes", "partition", "account", "qos", "array_parallelism",
                "signal_seconds", "setup", "sbatch",
            ),
            "ray": ("address",),
        }  # fmt: skip
        for owner, keys in owners.items():
            given = [key for key in keys if getattr(self, key)]
            if given and owner != self.name:
                raise ValueError(
                    f"{given[0]} is {getattr(self, given[0])}, which only the executor '{owner}' "
                    f"reads; choose executor={owner} or leave it out"
                )
        return self

    @model_validator(mode="after")
    def _leaves_sbatch_its_own(self) -> "ExecutorConfig":
        for name in self.sbatch:
            setting = _SBATCH_TAKEN.get(name.replace("_", "-"))
            if setting is not None:
                raise ValueError(
                    f"sbatch holds {name}, which longact sets itself; leave it out{setting}"
                )
        return self


class TrackingConfig(_Frozen):
    """Where runs are recorded. Not part of the science: never enters a digest."""

    uri: str | None = None
    """MLflow's store, after --tracking-uri and MLFLOW_TRACKING_URI; null: in the runs folder."""


class RunConfig(_Frozen):
    """Everything that defines one train-then-evaluate cell."""

    model: ModelConfig
    data: DataConfig
    algorithm: AlgorithmConfig
    mask: MaskConfig
    benchmark: BenchmarkConfig
    executor: ExecutorConfig
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    parallel: ParallelConfig = ParallelConfig()
    vllm: VllmConfig = VllmConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _shares_evenly(self) -> "RunConfig":
        complaint = parallel_complaint(self.algorithm, self.parallel, self.vllm)
        if complaint:
            raise ValueError(complaint)
        return self


def parallel_complaint(
    algorithm: AlgorithmConfig, parallel: ParallelConfig, vllm: VllmConfig
) -> str | None:
    """Return what keeps several processes from sharing a step evenly, if anything."""
    processes = parallel.processes
    if processes == 1:
        if parallel.sharding == "fsdp2":
            return "parallel.sharding is fsdp2; it needs parallel.processes of at least 2"
        return None
    if algorithm.prompts_per_step % processes:
        return (
            f"parallel.processes is {processes}; it must divide algorithm.prompts_per_step = "
            f"{algorithm.prompts_per_step}, so that every process holds whole groups"
        )
    rollouts = algorithm.prompts_per_step * algorithm.group_size // processes
    if algorithm.kind != "sft" and rollouts % algorithm.micro_batch(processes):
        return (
            f"algorithm.micro_batch_size is {algorithm.micro_batch_size}; it must divide the "
            f"{rollouts} rollouts of a step on each of parallel.processes = {processes}"
        )
    if algorithm.use_vllm and vllm.mode == "colocate" and processes % vllm.gpus:
        return f"vllm.gpus is {vllm.gpus}; it must divide parallel.processes = {processes}"
    return None
