"""A study as tidy data: one row per score, one row per answered question, and what is missing."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from longact_cli.errors import NotFoundError
from longact_cli.files import sha256_json
from longact_cli.results import EvalResult
from longact_cli.tracking import Progress
from longact_cli.tracking.query import (
    TrackedCell,
    list_studies,
    read_answers,
    read_curves,
    read_study,
)
from longact_cli.tracking.run_files import Answers, Asked, RunFiles

UPDATE_RATIO = "mask/update_ratio"
_CELL_COLUMNS = ("cell", "model", "algorithm", "arm", "sparsity", "seed")
SAMPLE_COLUMNS = (
    *_CELL_COLUMNS,
    *("benchmark", "task", "context_length", "difficulty", "sample", "score", "failed"),
    *("truncated", "document", "protocol", "run_id", "commit"),
)
_END_COLUMNS = (*_CELL_COLUMNS, "protocol", "run_id", "commit")
_ASKED_COLUMNS = ("sample", "benchmark", "task", "context_length", "difficulty", "document")
SCORE_COLUMNS = (*_CELL_COLUMNS, *EvalResult._fields, "run_id", "commit")


class Missing(NamedTuple):
    """A cell the study asked for that is not part of the numbers, why, and what would fill it.

    `retry` says that it ran before, and its command must be told to try again.
    """

    digest: str
    label: str
    state: str
    reason: str
    command: str
    retry: bool


@dataclass(frozen=True, eq=False)
class Study:
    """Everything a report says, read once.

    Attributes:
        name: The study's name.
        cells: All cells, finished or not.
        scores: One row per score of a finished eval cell, `SCORE_COLUMNS`.
        samples: One row per question and finished eval cell, `SAMPLE_COLUMNS`; `score` is NaN
            exactly where `failed`.
        missing: The cells that are not finished.
        achieved: By digest of the train cell, the mean fraction of rows that were updated, where
            the mask was chosen by mass.
        places: By digest, the study in MLflow that holds the cell.
    """

    name: str
    cells: tuple[TrackedCell, ...]
    scores: pd.DataFrame
    samples: pd.DataFrame
    missing: tuple[Missing, ...]
    achieved: Mapping[str, float] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def scored(self) -> tuple[TrackedCell, ...]:
        """The finished eval cells."""
        return tuple(cell for cell in self.cells if is_scored(cell))


def is_scored(cell: TrackedCell) -> bool:
    """Return whether this is an eval cell whose scores count."""
    return cell.stage == "eval" and cell.status == "FINISHED"


def load_study(
    uri: str, *names: str, cache: Path | None = None, progress: Progress | None = None
) -> Study:
    """Read one study from MLflow, or several as one: equal cells are counted once.

    Args:
        uri: MLflow tracking URI.
        names: The studies.
        cache: Folder with what an earlier call has read, which is then brought up to date.
        progress: Told how far a server is read.

    Raises:
        NotFoundError: There is no such study, or it has no finished eval cell.
        TrackingError: MLflow failed.
    """
    names = tuple(dict.fromkeys(names))
    kept = None if cache is None else cache / f"answers-{sha256_json([uri, names])[:16]}.json"
    with RunFiles(kept, progress) as files:
        cells, places = _cells(uri, names, files)
        title = " + ".join(names)
        scored = [cell for cell in cells if is_scored(cell)]
        if not scored:
            raise _nothing_scored(title, cells)
        answers: dict[str, Answers] = {}
        for name in names:
            own = [cell for cell in scored if places[cell.digest] == name]
            read = read_answers(uri, name, own, files)
            answers |= {cell.digest: one for cell, one in zip(own, read, strict=True)}
    rows = [(cell, answers[cell.digest]) for cell in scored]
    study = make_study(title, cells, rows, _achieved(uri, cells))
    return replace(study, places=places)


def _cells(
    uri: str, names: Iterable[str], files: RunFiles
) -> tuple[tuple[TrackedCell, ...], dict[str, str]]:
    """Return the cells of all studies, each once, and by digest the study that it is taken from."""
    cells: dict[str, TrackedCell] = {}
    places: dict[str, str] = {}
    for name in names:
        found = read_study(uri, name, files)
        if not found:
            raise _no_study(uri, name)
        for cell in found:
            if cell.digest not in cells or cells[cell.digest].status != "FINISHED":
                cells[cell.digest], places[cell.digest] = cell, name
    return tuple(cells.values()), places


def make_study(
    name: str,
    cells: tuple[TrackedCell, ...],
    answers: Iterable[tuple[TrackedCell, Answers]],
    achieved: Mapping[str, float],
) -> Study:
    """Arrange cells and their answers as a study.

    Args:
        name: For titles.
        cells: All cells, finished or not.
        answers: The answers of each finished eval cell.
        achieved: See `Study`.
    """
    return Study(
        name=name,
        cells=cells,
        scores=_score_frame(cell for cell in cells if is_scored(cell)),
        samples=_sample_frame(answers),
        missing=tuple(_missing(cell) for cell in cells if cell.status != "FINISHED"),
        achieved=achieved,
    )


def _nothing_scored(name: str, cells: Collection[TrackedCell]) -> NotFoundError:
    states = sorted({cell.state for cell in cells if cell.stage == "eval"})
    return NotFoundError(
        f"study '{name}' has no finished evaluation ({len(cells)} cells, evaluations are: "
        f"{', '.join(states) or 'not planned'}); run its `longact ablate` command again"
    )


def _achieved(uri: str, cells: Iterable[TrackedCell]) -> dict[str, float]:
    """Return the mean of the logged update ratios of each finished run whose mask had a mass."""
    runs = {
        cell.digest: cell.run_id
        for cell in cells
        if cell.params.get("mask.mass", "null") != "null"
        and cell.stage == "train"
        and cell.run_id
        and cell.status == "FINISHED"
    }
    curves = read_curves(uri, tuple(runs.values()), UPDATE_RATIO)
    means = {}
    for digest, run_id in runs.items():
        if points := curves[run_id]:
            means[digest] = sum(point.value for point in points) / len(points)
    return means


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


def _ends(cell: TrackedCell) -> tuple[Any, ...]:
    protocol = cell.params.get("benchmark.protocol")
    return (*_head(cell), protocol, cell.run_id, cell.git_commit)


def _head(cell: TrackedCell) -> tuple[Any, ...]:
    return (cell.digest, cell.model, cell.algorithm, cell.arm, cell.sparsity, cell.seed)


def _score_frame(cells: Iterable[TrackedCell]) -> pd.DataFrame:
    rows = [
        (*_head(cell), *result, cell.run_id, cell.git_commit)
        for cell in cells
        for result in cell.results
    ]
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def _sample_frame(found: Iterable[tuple[TrackedCell, Answers]]) -> pd.DataFrame:
    """Return one row per answer; what cells and questions say is laid out once and repeated."""
    answered = [(cell, answers) for cell, answers in found if answers.asked]
    if not answered:
        return pd.DataFrame([], columns=list(SAMPLE_COLUMNS))
    cells = pd.DataFrame([_ends(cell) for cell, _ in answered], columns=list(_END_COLUMNS))
    numbers: dict[Asked, int] = {}
    places: dict[int, list[int]] = {}
    for _, answers in answered:
        if id(answers.asked) not in places:
            places[id(answers.asked)] = [
                numbers.setdefault(asked, len(numbers)) for asked in answers.asked
            ]
    questions = pd.DataFrame(list(numbers), columns=list(_ASKED_COLUMNS))
    sizes = [len(answers.asked) for _, answers in answered]
    shown = np.concatenate([places[id(answers.asked)] for _, answers in answered])
    parts = (
        cells.take(np.repeat(np.arange(len(cells)), sizes)).reset_index(drop=True),
        questions.take(shown).reset_index(drop=True),
    )
    frame = pd.concat(parts, axis="columns")
    scores = np.array([score for _, answers in answered for score in answers.scores], dtype=float)
    frame["score"], frame["failed"] = scores, np.isnan(scores)
    frame["truncated"] = np.concatenate([answers.truncated for _, answers in answered])
    return frame[list(SAMPLE_COLUMNS)]


def _missing(cell: TrackedCell) -> Missing:
    reason = cell.error or ("never started" if cell.state == "pending" else "no reason recorded")
    if cell.state == "running":
        reason = "still running, or its run was killed"
    command = cell.command or "longact ablate"
    retry = cell.state in ("failed", "blocked") and command.startswith("longact ablate")
    said = " ".join(reason.split())[:200]
    return Missing(cell.digest, cell.label, cell.state, said, command, retry)
