"""What the runs cost: time, tokens and memory, of training and of each evaluation."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.frame import Study
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES, missing_lines
from longact_cli.tracking.query import TrackedCell

_MINUTE, _MILLION, _GIB = 60.0, 1e6, float(1 << 30)

_COLUMNS = (
    Column("stage", "Stage", "text"),
    Column("algorithm", "Algorithm", "text"),
    Column("arm", "Rows updated", "text"),
    Column("sparsity", "Sparsity", "text"),
    Column("runs", "Runs", "count"),
    Column("minutes", "Minutes per run", "number"),
    Column("minutes_min", "shortest", "number"),
    Column("minutes_max", "longest", "number"),
    Column("tokens", "Tokens (millions)", "number"),
    Column("rate", "Tokens per second", "number"),
    Column("memory", "Peak memory (GiB)", "number"),
    Column("total_hours", "All runs (hours)", "number"),
)
_NOTES = (
    "Means over finished runs. Minutes are wall time of the cell's process, with start-up; tokens "
    "are those of prompts and completions in training, and their rate is over the steps alone.",
    "Peak memory is the largest over runs: of the GPU where one was used, else of the process. "
    "Times depend on the machine and on what else it did; they are no part of the science.",
)


class _Key(NamedTuple):
    model: str
    stage: str
    algorithm: str
    strategy: str
    sparsity: float | None


@TABLES.register("compute")
def compute_table(study: Study, provenance: Provenance) -> Table:
    """Build the table of costs, one section per model; only finished cells count."""
    groups: dict[_Key, list[TrackedCell]] = {}
    for cell in study.cells:
        if cell.status == "FINISHED":
            groups.setdefault(_key(cell), []).append(cell)
    keys = sorted(groups, key=lambda key: (*key[:4], key.sparsity or 0.0))
    sections = tuple(
        Section(model, tuple(_rows(groups, [key for key in keys if key.model == model])))
        for model in sorted({key.model for key in keys})
    )
    return Table(
        name="compute",
        title=f"Compute: {study.name}",
        columns=_COLUMNS,
        sections=sections,
        notes=_NOTES,
        missing=missing_lines(study),
        provenance=provenance,
    )


def _key(cell: TrackedCell) -> _Key:
    stage = "train" if cell.stage == "train" else f"eval {cell.benchmark}"
    algorithm = "untrained" if cell.arm == BASE_ARM else cell.algorithm or ""
    # Training comes first.
    return _Key(cell.model, f"{stage}", algorithm, cell.arm, cell.sparsity)


def _rows(
    groups: dict[_Key, list[TrackedCell]], keys: Sequence[_Key]
) -> Iterator[tuple[Entry, ...]]:
    for key in sorted(keys, key=lambda key: key.stage != "train"):
        cells = groups[key]
        traced = tuple(cell.digest[:12] for cell in cells)
        minutes = [cell.seconds / _MINUTE for cell in cells if cell.seconds is not None]
        tokens = _known(cells, "tokens") or _known(cells, "num_tokens")
        rates = [
            cell.metrics["tokens"] / cell.metrics["training_seconds"]
            for cell in cells
            if cell.metrics.get("training_seconds") and "tokens" in cell.metrics
        ]
        memory = _known(cells, "peak_memory_bytes")
        yield (
            Entry(key.stage),
            Entry(key.algorithm),
            Entry(key.strategy),
            Entry("n/a" if key.sparsity is None else f"{key.sparsity:g}"),
            Entry(len(cells)),
            *(
                Entry(value, cells=traced)
                for value in (
                    _mean(minutes),
                    min(minutes, default=None),
                    max(minutes, default=None),
                    _mean([token / _MILLION for token in tokens]),
                    _mean(rates),
                    max((one / _GIB for one in memory), default=None),
                    sum(minutes) / _MINUTE if minutes else None,
                )
            ),
        )


def _known(cells: Sequence[TrackedCell], name: str) -> list[float]:
    return [cell.metrics[name] for cell in cells if name in cell.metrics]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
