"""A study as tidy data: one row per score, one row per answered question, and what is missing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import pandas as pd

from longact_cli.errors import NotFoundError
from longact_cli.results import EvalResult, SampleResult
from longact_cli.tracking.query import TrackedCell, list_studies, read_samples, read_study

_CELL_COLUMNS = ("cell", "model", "algorithm", "arm", "sparsity", "seed")
SAMPLE_COLUMNS = (
    *_CELL_COLUMNS,
    *("benchmark", "task", "context_length", "sample", "score", "failed", "truncated"),
    "document",
)
SCORE_COLUMNS = (*_CELL_COLUMNS, *EvalResult._fields)


class Missing(NamedTuple):
    """A cell the study asked for that is not part of the numbers, and why."""

    digest: str
    label: str
    state: str
    reason: str


@dataclass(frozen=True)
class Study:
    """Everything a report says, read once.

    Attributes:
        name: The study's name.
        cells: All cells, finished or not.
        scores: One row per score of a finished eval cell, `SCORE_COLUMNS`.
        samples: One row per question and finished eval cell, `SAMPLE_COLUMNS`; `score` is NaN
            exactly where `failed`.
        missing: The cells that are not finished.
    """

    name: str
    cells: tuple[TrackedCell, ...]
    scores: pd.DataFrame
    samples: pd.DataFrame
    missing: tuple[Missing, ...]

    @property
    def scored(self) -> tuple[TrackedCell, ...]:
        """The finished eval cells."""
        return tuple(cell for cell in self.cells if is_scored(cell))


def is_scored(cell: TrackedCell) -> bool:
    """Return whether this is an eval cell whose scores count."""
    return cell.stage == "eval" and cell.status == "FINISHED"


def load_study(uri: str, name: str) -> Study:
    """Read a study from MLflow.

    Raises:
        NotFoundError: There is no such study, or it has no finished eval cell.
        TrackingError: MLflow failed.
    """
    cells = read_study(uri, name)
    if not cells:
        raise _no_study(uri, name)
    scored = [cell for cell in cells if is_scored(cell)]
    if not scored:
        states = sorted({cell.state for cell in cells if cell.stage == "eval"})
        raise NotFoundError(
            f"study '{name}' has no finished evaluation ({len(cells)} cells, evaluations are: "
            f"{', '.join(states) or 'not planned'}); run its `longact ablate` command again"
        )
    return Study(
        name=name,
        cells=cells,
        scores=_frame(_score_rows(scored), SCORE_COLUMNS),
        samples=_frame(_sample_rows(uri, name, scored), SAMPLE_COLUMNS),
        missing=tuple(_missing(cell) for cell in cells if cell.status != "FINISHED"),
    )


def _no_study(uri: str, name: str) -> NotFoundError:
    known = list_studies(uri)
    if not known:
        return NotFoundError(
            f"there is no study '{name}': {uri} holds none; run `longact ablate` first, "
            "or give --runs-dir"
        )
    close = get_close_matches(name, known, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return NotFoundError(f"there is no study '{name}' in {uri}; it has: {', '.join(known)}.{hint}")


def _frame(rows: Iterable[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))


def _cell_values(cell: TrackedCell) -> dict[str, Any]:
    values = (cell.digest, cell.model, cell.algorithm, cell.arm, cell.sparsity, cell.seed)
    return dict(zip(_CELL_COLUMNS, values, strict=True))


def _score_rows(cells: Iterable[TrackedCell]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        for result in cell.results:
            yield _cell_values(cell) | result._asdict()


def _sample_rows(uri: str, study: str, cells: Iterable[TrackedCell]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        if cell.run_id is not None:
            for sample in read_samples(uri, study, cell.run_id):
                yield _cell_values(cell) | _sample_values(sample)


def _sample_values(sample: SampleResult) -> dict[str, Any]:
    return {
        "benchmark": sample.benchmark,
        "task": sample.task,
        "context_length": sample.context_length,
        "sample": sample.id,
        "score": float("nan") if sample.score is None else sample.score,
        "failed": sample.score is None,
        "truncated": sample.truncated,
        "document": sample.document,
    }


def _missing(cell: TrackedCell) -> Missing:
    reason = cell.error or ("never started" if cell.state == "pending" else "no reason recorded")
    if cell.state == "running":
        reason = "still running, or its run was killed"
    return Missing(cell.digest, cell.label, cell.state, " ".join(reason.split())[:200])
