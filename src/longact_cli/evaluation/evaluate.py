"""Evaluate one checkpoint on one benchmark: samples, answers, scores."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
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
from longact_cli.evaluation.inputs import data_hashes, data_sha256
from longact_cli.evaluation.usage import read_usage, usage_path
from longact_cli.evaluation.vllm_cpu import vllm_version
from longact_cli.evaluation.yarn import check_window
from longact_cli.files import sha256_json, write_json
from longact_cli.models.loading import (
    checkpoint_sha256,
    load_tokenizer,
    tokenizer_sha256,
)
from longact_cli.results import EvalResult, SampleResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from longact_cli.evaluation.answers import Progress
    from longact_cli.evaluation.backends import BackendPlan
    from longact_cli.evaluation.journal import Origin

_SHOWN_PER_TASK = 20


def estimate(benchmark: BenchmarkConfig) -> tuple[Workload, ...]:
    """Return the work per task and length, without a tokenizer or a model.

    Raises:
        UnknownNameError: A task does not exist.
        ConfigError: A length leaves no room for a prompt, or a setting does not suit.
    """
    return open_benchmark(benchmark).workloads()


def _full_protocol(protocol: str, plan: "BackendPlan") -> str:
    return protocol if plan.yarn is None else f"{protocol}, {plan.yarn}"


def _with_cut(sample: Sample, window: int) -> Sample:
    """Note how much of a prompt the backend will cut, where the protocol leaves that to it."""
    cut = sample.prompt_tokens + sample.tokens_to_generate - window
    return replace(sample, truncated_tokens=cut) if sample.cut_by_backend and cut > 0 else sample


def _check_hash(benchmark: BenchmarkConfig) -> None:
    """Refuse data that are not those of the plan."""
    if benchmark.data_sha256 not in (None, data_sha256(benchmark)):
        raise ConfigError(
            f"the files in benchmark.data_dir={benchmark.data_dir} have changed since the plan was "
            "made: run the command again"
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
        progress: Called with (answered, all, tokens) after every batch.

    Raises:
        ConfigError: A task or length does not fit the model; raised before the model is loaded.
        PrerequisiteError: The backend's package is not installed.
    """
    estimate(benchmark)
    check_window(checkpoint, model=model, benchmark=benchmark)
    _check_hash(benchmark)

    from lm_eval.evaluator import evaluate as lm_evaluate

    from longact_cli.evaluation.answers import JournalLM, Journals
    from longact_cli.evaluation.backends import load_backend, plan_backend
    from longact_cli.evaluation.journal import Journal
    from longact_cli.evaluation.task import SampleTask

    plan = plan_backend(checkpoint, model=model, benchmark=benchmark)
    tokenizer = load_tokenizer(
        checkpoint, trust_remote_code=model.trust_remote_code, revision=model.revision
    )
    rules = open_benchmark(benchmark)
    samples = tuple(_with_cut(sample, plan.window) for sample in rules.samples(tokenizer))
    origin = _origin(plan, rules)
    journal = Journal(samples_path, origin=origin)
    answering = JournalLM(
        Journals(
            Journal(samples_path.with_suffix(".first.jsonl"), origin=origin),
            journal,
            usage_path(samples_path),
        ),
        rules,
        load=lambda: load_backend(plan, tokenizer=tokenizer),
        tokenizer=tokenizer,
        batch_size=plan.samples_per_call,
        progress=progress or (lambda _done, _all, _flow: None),
    )
    task = SampleTask(benchmark.name, samples)
    lm_evaluate(answering, {benchmark.name: task}, bootstrap_iters=0, log_samples=False)
    results = journal.finish(sample.id for sample in samples)
    _describe(samples_path, benchmark=benchmark, rules=rules, plan=plan, samples=samples)
    _write_page(samples_path, title=f"{benchmark.name}: {checkpoint}", results=results, of=samples)
    found = rules.aggregate([Answered(*pair) for pair in zip(samples, results, strict=True)])
    return tuple(row._replace(protocol=_full_protocol(row.protocol, plan)) for row in found)


def _describe(
    samples_path: Path,
    *,
    benchmark: BenchmarkConfig,
    rules: Benchmark,
    plan: "BackendPlan",
    samples: Sequence[Sample],
) -> None:
    """Write what was asked, of which data, how it was scored and what it took."""
    questions = [[sample.id, sample.prompt_sha256, *sample.references] for sample in samples]
    usage = read_usage(usage_path(samples_path))
    described = {
        "benchmark": benchmark.name,
        "protocol": _full_protocol(rules.protocol, plan),
        "scorer": rules.scorer_version,
        "backend": benchmark.backend,
        "chat_template": benchmark.chat_template,
        "yarn": plan.yarn._asdict() if plan.yarn else None,
        "data_sha256": sha256_json(questions),
        "data_files": data_hashes(benchmark),
        "samples": len(samples),
        "truncated": sum(sample.truncated_tokens > 0 for sample in samples),
        "truncated_tokens": sum(sample.truncated_tokens for sample in samples),
        "usage": {**usage._asdict(), "prefix_cache_hit_share": usage.hit_share},
    }
    write_json(samples_path.with_suffix(".protocol.json"), described)


def _write_page(
    samples_path: Path, *, title: str, results: Sequence[SampleResult], of: Sequence[Sample]
) -> None:
    """Write the first samples of each task and length as a page to read."""
    from longact_cli.evaluation.sample_page import write_sample_page

    shown: list[SampleResult] = []
    counts: Counter[tuple[str, int]] = Counter()
    for result in results:
        counts[result.task, result.context_length] += 1
        if counts[result.task, result.context_length] <= _SHOWN_PER_TASK:
            shown.append(result)
    path = samples_path.with_suffix(".html")
    write_sample_page(path, title=title, results=shown, samples={one.id: one for one in of})


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
        generation=f"{GENERATION}; protocol {rules.protocol}"
        + (f"; {plan.yarn}" if plan.yarn else ""),
        scorer=rules.scorer_version,
        packages=tuple(packages),
    )
