"""Evaluate one checkpoint on one benchmark: samples, answers, scores."""

from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import ConfigError
from longact_cli.evaluation.ruler.generator import RulerSample, RulerSource, find_task, make_sample
from longact_cli.evaluation.ruler.score import METRIC, SCORER_VERSION
from longact_cli.models.loading import (
    checkpoint_sha256,
    context_window,
    load_tokenizer,
    tokenizer_sha256,
)
from longact_cli.results import EvalResult, SampleResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from longact_cli.evaluation.answers import Progress
    from longact_cli.evaluation.backends import BackendPlan
    from longact_cli.evaluation.journal import Origin


class Workload(NamedTuple):
    """What one task at one context length costs, as upper bounds. Lengths in tokens."""

    task: str
    context_length: int
    samples: int
    prompt_tokens: int
    generated_tokens: int


def estimate(benchmark: BenchmarkConfig) -> tuple[Workload, ...]:
    """Return the work per task and length, without a tokenizer or a model.

    Raises:
        UnknownNameError: A task does not exist.
        ConfigError: A length leaves no room for a prompt.
    """
    return tuple(
        _workload(task, length, samples=benchmark.limit)
        for task, length in product(benchmark.tasks, benchmark.context_lengths)
    )


def _workload(task: str, length: int, *, samples: int) -> Workload:
    answer = find_task(task).tokens_to_generate
    if length <= answer:
        raise ConfigError(
            f"benchmark.context_lengths is {length}; {task} reserves {answer} of them for the "
            "answer: choose a larger length"
        )
    return Workload(task, length, samples, samples * (length - answer), samples * answer)


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
) -> tuple[RulerSample, ...]:
    """Return all samples, ordered by task, length and index.

    Raises:
        UnknownNameError: A task does not exist.
        ConfigError: A length is too short for a task.
    """
    source = RulerSource(
        tokenizer, seed=benchmark.seed, split="eval", chat_template=benchmark.chat_template
    )
    coordinates = product(
        dict.fromkeys(benchmark.tasks),
        sorted(set(benchmark.context_lengths)),
        range(benchmark.limit),
    )
    return tuple(
        make_sample(task, length, index=index, source=source) for task, length, index in coordinates
    )


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
        samples_path: `samples.jsonl`; one `SampleResult` per line, ordered by task, length, index.
        progress: Called with (answered, all) after every batch.

    Raises:
        ConfigError: A task or length does not fit the model; raised before the model is loaded.
        PrerequisiteError: The backend's package is not installed.
    """
    estimate(benchmark)
    check_window(checkpoint, model=model, benchmark=benchmark)

    from lm_eval.evaluator import evaluate as lm_evaluate

    from longact_cli.evaluation.answers import JournalLM
    from longact_cli.evaluation.backends import load_backend, plan_backend
    from longact_cli.evaluation.journal import Journal
    from longact_cli.evaluation.task import RulerTask

    plan = plan_backend(checkpoint, model=model, benchmark=benchmark)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=model.trust_remote_code)
    samples = build_samples(benchmark, tokenizer=tokenizer)
    journal = Journal(samples_path, origin=_origin(plan))
    answering = JournalLM(
        journal,
        load=lambda: load_backend(plan, tokenizer=tokenizer),
        tokenizer=tokenizer,
        batch_size=plan.samples_per_call,
        progress=progress or (lambda _done, _all: None),
    )
    groups = _by_task_and_length(samples)
    tasks = {name: RulerTask(name, group) for name, group in groups.items()}
    scores = lm_evaluate(answering, tasks, bootstrap_iters=0, log_samples=False)["results"]
    results = {result.id: result for result in journal.finish(sample.id for sample in samples)}
    return tuple(
        _result(
            [results[sample.id] for sample in group],
            score=scores[name].get(f"{METRIC},none"),
            protocol=benchmark.protocol,
        )
        for name, group in groups.items()
    )


def _by_task_and_length(samples: tuple[RulerSample, ...]) -> dict[str, list[RulerSample]]:
    groups: dict[str, list[RulerSample]] = {}
    for sample in samples:
        groups.setdefault(f"ruler/{sample.task}/{sample.context_length}", []).append(sample)
    return groups


def _origin(plan: "BackendPlan") -> "Origin":
    from longact_cli.evaluation.journal import Origin
    from longact_cli.evaluation.task import GENERATION

    names = ("lm_eval", "torch", "transformers", *(("vllm",) if plan.backend == "vllm" else ()))
    return Origin(
        checkpoint_sha256=checkpoint_sha256(plan.checkpoint),
        tokenizer_sha256=tokenizer_sha256(plan.checkpoint),
        backend=plan.backend,
        dtype=plan.dtype,
        generation=GENERATION,
        scorer=SCORER_VERSION,
        packages=tuple(f"{name} {version(name)}" for name in names),
    )


def _result(samples: list[SampleResult], *, score: float | None, protocol: str) -> EvalResult:
    first = samples[0]
    return EvalResult(
        benchmark=first.benchmark,
        task=first.task,
        protocol=protocol,
        context_length=first.context_length,
        metric=METRIC,
        score=score,
        n_scored=sum(sample.error is None for sample in samples),
        n_failed=sum(sample.error is not None for sample in samples),
        n_truncated=sum(sample.truncated for sample in samples),
    )
