"""What an evaluation will send through the model, per task and length."""

from collections.abc import Sequence
from typing import NamedTuple

from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import PrerequisiteError
from longact_cli.evaluation.benchmark import Sample, Workload, open_benchmark
from longact_cli.models.loading import load_tokenizer, resolve_checkpoint


class TaskLoad(NamedTuple):
    """The work of one task at one context length. Tokens are sums over samples.

    `fill` is the mean share of the context length that prompts and answer budgets take; `fill` and
    `truncated` are None where only upper bounds are known.
    """

    task: str
    context_length: int
    samples: int
    prompt_tokens: int
    generated_tokens: int
    fill: float | None
    truncated: int | None


def measure_workload(
    benchmark: BenchmarkConfig, *, model: ModelConfig
) -> tuple[tuple[TaskLoad, ...], bool]:
    """Return the work of every task and length, and whether it is exact.

    Prompts are made, which fills their cache. Where tokenizer or data are not on this machine, the
    bounds that the settings give are returned.

    Raises:
        ConfigError: A setting does not suit the benchmark or the data.
        PrerequisiteError: A file is not in the data folder.
    """
    rules = open_benchmark(benchmark)
    bounds = rules.workloads()
    if benchmark.protocol == "lm-eval":  # its prompts take too long to make for a look
        return tuple(_bound(work) for work in bounds), False
    try:
        checkpoint = resolve_checkpoint(model)
        tokenizer = load_tokenizer(
            checkpoint, trust_remote_code=model.trust_remote_code, revision=model.revision
        )
        samples = rules.samples(tokenizer)
    except (PrerequisiteError, OSError):
        if benchmark.data_dir is not None:
            raise
        return tuple(_bound(work) for work in bounds), False
    groups: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.task, sample.context_length), []).append(sample)
    return tuple(_exact(*key, group) for key, group in groups.items()), True


def _bound(work: Workload) -> TaskLoad:
    return TaskLoad(*work, fill=None, truncated=None)


def _exact(task: str, length: int, samples: Sequence[Sample]) -> TaskLoad:
    tokens_in = sum(sample.prompt_tokens for sample in samples)
    tokens_out = sum(sample.tokens_to_generate for sample in samples)
    return TaskLoad(
        task,
        length,
        len(samples),
        tokens_in,
        tokens_out,
        fill=(tokens_in + tokens_out) / (length * len(samples)),
        truncated=sum(sample.truncated_tokens > 0 for sample in samples),
    )
