"""Evaluate one checkpoint on one benchmark: samples, answers, scores."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import ConfigError
from longact_cli.evaluation.benchmark import (
    Answered,
    Benchmark,
    Sample,
    Workload,
    open_benchmark,
)
from longact_cli.evaluation.vllm_cpu import vllm_version
from longact_cli.models.loading import (
    checkpoint_sha256,
    context_window,
    load_tokenizer,
    tokenizer_sha256,
)
from longact_cli.results import EvalResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from longact_cli.evaluation.answers import Progress
    from longact_cli.evaluation.backends import BackendPlan
    from longact_cli.evaluation.journal import Origin


def estimate(benchmark: BenchmarkConfig) -> tuple[Workload, ...]:
    """Return the work per task and length, without a tokenizer or a model.

    Raises:
        UnknownNameError: A task does not exist.
        ConfigError: A length leaves no room for a prompt, or a setting does not suit.
    """
    return open_benchmark(benchmark).workloads()


def check_window(checkpoint: str, *, model: ModelConfig, benchmark: BenchmarkConfig) -> None:
    """Check that every context length fits into the model.

    Raises:
        ConfigError: One does not.
    """
    window, limited_by = context_window(checkpoint), "the model's window"
    if model.max_context is not None and model.max_context < window:
        window, limited_by = model.max_context, "model.max_context"
    longest = max(benchmark.context_lengths)
    if longest > window:
        raise ConfigError(
            f"benchmark.context_lengths is {longest}; {limited_by} is {window} tokens: "
            f"choose lengths up to {window}"
        )


def build_samples(
    benchmark: BenchmarkConfig, *, tokenizer: "PreTrainedTokenizerBase"
) -> tuple[Sample, ...]:
    """Return all samples in the order in which they are stored.

    Raises:
        UnknownNameError: A task does not exist.
        ConfigError: A length is too short for a task, or data do not fit.
        PrerequisiteError: Data are missing.
    """
    return open_benchmark(benchmark).samples(tokenizer)


def evaluate(
    checkpoint: str,
    *,
    model: ModelConfig,
    benchmark: BenchmarkConfig,
    samples_path: Path,
    progress: "Progress | None" = None,
) -> tuple[EvalResult, ...]:
    """Score a checkpoint; answers go to `samples_path` while they come.

    Called again after an interruption, it generates only what is missing and ends with the same
    file. Failed samples are recorded with their error, counted, and never part of a score.

    Args:
        checkpoint: Local folder or hub id.
        model: How its weights are loaded.
        benchmark: What is asked.
        samples_path: `samples.jsonl`; one `SampleResult` per line, in the order of the samples.
        progress: Called with (answered, all) after every batch.

    Raises:
        ConfigError: A task or length does not fit the model; raised before the model is loaded.
        PrerequisiteError: The backend's package is not installed.
    """
    estimate(benchmark)
    check_window(checkpoint, model=model, benchmark=benchmark)

    from lm_eval.evaluator import evaluate as lm_evaluate

    from longact_cli.evaluation.answers import JournalLM, Journals
    from longact_cli.evaluation.backends import load_backend, plan_backend
    from longact_cli.evaluation.journal import Journal
    from longact_cli.evaluation.task import SampleTask

    plan = plan_backend(checkpoint, model=model, benchmark=benchmark)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=model.trust_remote_code)
    rules = open_benchmark(benchmark)
    samples = rules.samples(tokenizer)
    origin = _origin(plan, rules)
    journal = Journal(samples_path, origin=origin)
    answering = JournalLM(
        Journals(Journal(samples_path.with_suffix(".first.jsonl"), origin=origin), journal),
        rules,
        load=lambda: load_backend(plan, tokenizer=tokenizer),
        tokenizer=tokenizer,
        batch_size=plan.samples_per_call,
        progress=progress or (lambda _done, _all: None),
    )
    task = SampleTask(benchmark.name, samples)
    lm_evaluate(answering, {benchmark.name: task}, bootstrap_iters=0, log_samples=False)
    results = journal.finish(sample.id for sample in samples)
    return rules.aggregate([Answered(*pair) for pair in zip(samples, results, strict=True)])


def _origin(plan: "BackendPlan", rules: Benchmark) -> "Origin":
    from longact_cli.evaluation.journal import Origin
    from longact_cli.evaluation.task import GENERATION

    packages = [f"{name} {version(name)}" for name in ("lm_eval", "torch", "transformers")]
    if plan.backend == "vllm":
        packages.append(f"vllm {vllm_version()}")
    return Origin(
        checkpoint_sha256=checkpoint_sha256(plan.checkpoint),
        tokenizer_sha256=tokenizer_sha256(plan.checkpoint),
        backend=plan.backend,
        dtype=plan.dtype,
        generation=f"{GENERATION}; protocol {rules.protocol}",
        scorer=rules.scorer_version,
        packages=tuple(packages),
    )
