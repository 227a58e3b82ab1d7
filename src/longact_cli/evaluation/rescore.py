"""Score stored predictions again: no model, no data, one pass over a file of any size."""

import gzip
import json
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from longact_cli.errors import ConfigError
from longact_cli.evaluation.infinitebench.score import METRICS
from longact_cli.evaluation.longbench_v2.score import Judged, score_table
from longact_cli.evaluation.rescore_rows import Row, RowScore, Rules, find_rules

Bytes = IO[bytes] | gzip.GzipFile

_INFINITEBENCH_TASKS = len(METRICS)


class TaskSummary(NamedTuple):
    """One task, at one context length where rows name one; `score` is the mean over `n_scored`."""

    task: str
    context_length: int | None
    score: float | None
    n_scored: int
    n_failed: int
    n_empty: int
    n_unparsed: int


class Aggregate(NamedTuple):
    """A score over several tasks or a part of the samples, in 0..1; `n` samples or tasks."""

    name: str
    score: float | None
    n: int


class RescoreSummary(NamedTuple):
    """What a file of predictions scores."""

    benchmark: str
    scorer: str
    source: str
    tasks: tuple[TaskSummary, ...]
    aggregates: tuple[Aggregate, ...]
    notes: tuple[str, ...]

    @property
    def n_scored(self) -> int:
        """Rows with a prediction."""
        return sum(task.n_scored for task in self.tasks)

    @property
    def n_failed(self) -> int:
        """Rows without one: counted, and part of no score."""
        return sum(task.n_failed for task in self.tasks)


def rescore(
    benchmark: str, source: Path, *, scorer: str | None = None, out: Path | None = None
) -> RescoreSummary:
    """Score every row of a JSONL file, plain or gzipped.

    Args:
        benchmark: ruler, longbench-v2 or infinitebench.
        source: One JSON object per line.
        scorer: A version of the benchmark's scorer; None means that of its published numbers.
        out: Where to write the rows with `score` and `parsed` added, gzipped if it ends in `.gz`;
            it appears only when every row has been scored.

    Raises:
        ConfigError: The file is missing, empty or has a row that cannot be scored (the message
            names file and line); the output cannot be written.
        UnknownNameError: There is no such benchmark or scorer.
    """
    rules = find_rules(benchmark, scorer)
    if not source.is_file():
        raise ConfigError(f"--rescore is {source}, and there is no such file; check the path")
    scored: list[RowScore] = []
    with _output(out) as stream:
        for number, row in _read_rows(source):
            result = _score_row(row, rules, place=f"{source}, line {number}")
            scored.append(result)
            if stream is not None:
                stream.write(_line({**row, "score": result.score, "parsed": result.parsed}))
    if not scored:
        raise ConfigError(f"{source} holds no rows; it must have one JSON object per line")
    tasks = _task_summaries(scored)
    return RescoreSummary(
        benchmark=benchmark,
        scorer=rules.version,
        source=str(source),
        tasks=tasks,
        aggregates=_aggregates(benchmark, scored, tasks),
        notes=_notes(benchmark, scored, tasks),
    )


def summary_json(summary: RescoreSummary) -> Mapping[str, object]:
    """Return a summary as JSON values; tasks are keyed by name, or `name/length`."""
    return {
        "benchmark": summary.benchmark,
        "scorer": summary.scorer,
        "source": summary.source,
        "n": summary.n_scored + summary.n_failed,
        "n_scored": summary.n_scored,
        "n_failed": summary.n_failed,
        "tasks": {_name(task): task._asdict() for task in summary.tasks},
        "aggregates": {one.name: one.score for one in summary.aggregates},
        "aggregate_counts": {one.name: one.n for one in summary.aggregates},
        "notes": list(summary.notes),
    }


def _name(task: TaskSummary) -> str:
    return task.task if task.context_length is None else f"{task.task}/{task.context_length}"


def _score_row(row: Row, rules: Rules, *, place: str) -> RowScore:
    try:
        return rules.score(row)
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"{place}: {error}") from None


def _read_rows(source: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield (line number from 1, row); blank lines are skipped."""
    number = 0
    try:
        with _open_source(source) as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, _parse(line, place=f"{source}, line {number}")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{source} cannot be read after line {number}: {reason}") from None


def _open_source(source: Path) -> Bytes:
    with source.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(source, "rb") if zipped else source.open("rb")


def _parse(line: bytes, *, place: str) -> dict[str, object]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{place}: not valid JSON ({error}); correct or remove the line"
        ) from None
    if not isinstance(row, dict):
        raise ConfigError(f"{place}: no JSON object; correct or remove the line")
    return row


def _line(row: Mapping[str, object]) -> bytes:
    try:
        return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can carry
        return (json.dumps(row) + "\n").encode("ascii")


@contextmanager
def _output(out: Path | None) -> Iterator[Bytes | None]:
    """Open a temporary file beside `out` and put it in place when all went well."""
    if out is None:
        yield None
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    except OSError as error:
        raise _unwritable(out, error) from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as raw:
            if out.suffix == ".gz":
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as stream:
                    yield stream
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        temporary.chmod(0o644)
        temporary.replace(out)
    except OSError as error:
        raise _unwritable(out, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"--out is {out}, which cannot be written: {error.strerror or error}")


def _task_summaries(scored: list[RowScore]) -> tuple[TaskSummary, ...]:
    groups: dict[tuple[str, int | None], list[RowScore]] = {}
    for row in scored:
        groups.setdefault((row.task, row.context_length), []).append(row)
    return tuple(_summarise(*key, rows) for key, rows in groups.items())


def _summarise(task: str, length: int | None, rows: list[RowScore]) -> TaskSummary:
    answered = [row for row in rows if row.score is not None]
    return TaskSummary(
        task=task,
        context_length=length,
        score=_mean([row.score for row in answered if row.score is not None]),
        n_scored=len(answered),
        n_failed=len(rows) - len(answered),
        n_empty=sum(row.empty for row in answered),
        n_unparsed=sum(row.parsed is None for row in answered),
    )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _aggregates(
    benchmark: str, scored: list[RowScore], tasks: tuple[TaskSummary, ...]
) -> tuple[Aggregate, ...]:
    if benchmark != "longbench-v2":
        return _averages(tasks)
    judged = [_judged(row) for row in scored if row.score is not None]
    scores = [row.score for row in scored if row.score is not None]
    return tuple(Aggregate(*column) for column in score_table(judged, scores))


def _judged(row: RowScore) -> Judged:
    labels = dict(row.labels)
    return Judged(row.parsed, labels["difficulty"], labels["length"], labels.get("domain"))


def _averages(tasks: tuple[TaskSummary, ...]) -> tuple[Aggregate, ...]:
    """Return the plain mean over tasks, per context length and over all; RULER's weighted ones too.

    A mean exists only where every part of it has a score. Source of the weights: NVIDIA/RULER
    c3f5e3b, README.md: they grow or shrink linearly over the context lengths in order.
    """
    lengths = sorted({task.context_length for task in tasks if task.context_length is not None})
    by_length = [
        _average(f"mean/{length}", [task for task in tasks if task.context_length == length])
        for length in lengths
    ]
    rows = [_average("mean", list(tasks)), *by_length]
    scores = [one.score for one in by_length if one.score is not None]
    if len(lengths) > 1 and len(scores) == len(lengths):
        rising = list(range(1, len(scores) + 1))
        rows.append(_weighted("weighted_increasing", scores, rising))
        rows.append(_weighted("weighted_decreasing", scores, rising[::-1]))
    return tuple(rows)


def _weighted(name: str, scores: list[float], weights: list[int]) -> Aggregate:
    total = sum(score * weight for score, weight in zip(scores, weights, strict=True))
    return Aggregate(name, total / sum(weights), len(scores))


def _average(name: str, tasks: list[TaskSummary]) -> Aggregate:
    scores = [task.score for task in tasks if task.score is not None]
    return Aggregate(name, _mean(scores) if len(scores) == len(tasks) else None, len(tasks))


def _notes(
    benchmark: str, scored: list[RowScore], tasks: tuple[TaskSummary, ...]
) -> tuple[str, ...]:
    failed = sum(row.score is None for row in scored)
    notes = []
    if failed:
        notes.append(f"{failed} of {len(scored)} rows have no prediction: no score counts them")
    silent = [_name(task) for task in tasks if task.score is None]
    if silent:
        notes.append(f"no row of {', '.join(silent)} has a prediction: there is no mean over tasks")
    counted = Counter(row.note for row in scored if row.note)
    notes += [f"{note} ({count} rows)" for note, count in counted.items()]
    models = {value for row in scored for key, value in row.labels if key == "model"}
    if len(models) > 1:
        notes.append(f"rows of {len(models)} models are mixed: {', '.join(sorted(models))}")
    if benchmark == "infinitebench" and len(tasks) < _INFINITEBENCH_TASKS:
        notes.append(f"the mean covers {len(tasks)} of {_INFINITEBENCH_TASKS} tasks")
    return tuple(notes)
