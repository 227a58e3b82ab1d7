"""What makes two cells, configurations or plans different, key by key."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from longact_cli.cells import CellDir, cell_dir, read_cell
from longact_cli.config.compose import parse, validate
from longact_cli.config.experiment import load_experiment
from longact_cli.config.schema import RunConfig
from longact_cli.config.sweep import expand, model_choices
from longact_cli.errors import ConfigError
from longact_cli.execution.cancel import study_cells
from longact_cli.execution.overview import find_row
from longact_cli.files import read_json
from longact_cli.plan import Cell, flat_config, science_keys
from longact_cli.tracking.plans import read_plans

_SHOWN = 12
# Stored beside the provenance, but a result of the run.
_OUTCOMES = ("steps", "final_reward", "seconds", "tokens", "peak_memory_bytes")


@dataclass(frozen=True)
class Side:
    """One of two things that are compared.

    Attributes:
        name: What the user called it.
        digests: Its cells; empty for a bare configuration.
        settings: Each setting with every value it takes, sorted.
        science: Settings that count; None where that is not known, as for a bare configuration.
        facts: What produced it: commit, packages, machine.
    """

    name: str
    digests: frozenset[str]
    settings: Mapping[str, tuple[str, ...]]
    science: frozenset[str] | None
    facts: Mapping[str, str]


class Difference(NamedTuple):
    """One key and its values on both sides; `kind` says what the difference touches."""

    key: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    kind: str

    @property
    def text(self) -> str:
        """The difference in one line."""
        return f"{self.key}: {_values(self.left)} -> {_values(self.right)}"


def load_side(word: str, runs_dir: Path) -> Side:
    """Read one side: a study or a cell of the store, a cell's folder, a plan or study file.

    Raises:
        ConfigError: The file fits none of them, or the word names several cells.
        NotFoundError: There is no such file and no such cell.
    """
    path = Path(word)
    if path.is_dir() and (path / "cell.json").exists():
        return _cells_side(word, [CellDir(path)])
    if not path.is_file():
        if any(plan.study == word for plan in read_plans(runs_dir)):
            return _cells_side(word, study_cells(runs_dir, word))
        return _cells_side(word, [find_row(runs_dir, word).directory])
    if path.suffix in (".yaml", ".yml"):
        return _configs_side(word, _experiment_configs(path))
    data = read_json(path)
    if not isinstance(data, dict):
        raise ConfigError(f"{word} is not readable JSON; give a cell, a plan or a configuration")
    if "cells" in data:
        root = path.resolve().parents[1]
        return _cells_side(word, [cell_dir(root, cell["digest"]) for cell in data["cells"]])
    return _configs_side(word, [validate(data.get("config", data))])


def compare(left: Side, right: Side) -> tuple[Difference, ...]:
    """Return what differs: settings that count first, then those that do not, then provenance."""
    science = None
    if left.science is not None and right.science is not None:
        science = left.science | right.science
    found = []
    for key in sorted({*left.settings, *right.settings}):
        a, b = left.settings.get(key, ()), right.settings.get(key, ())
        if a != b:
            counts = science is None or key in science
            found.append(Difference(key, a, b, "setting" if counts else "run"))
    alike = left.settings.get("stage") == right.settings.get("stage")
    for key in sorted({*left.facts, *right.facts}) if alike else ():
        a, b = _one(left.facts.get(key)), _one(right.facts.get(key))
        if a != b:
            found.append(Difference(key, a, b, "provenance"))
    order = ("setting", "run", "provenance")
    return tuple(sorted(found, key=lambda difference: order.index(difference.kind)))


def _cells_side(name: str, directories: Iterable[CellDir]) -> Side:
    cells: list[Cell] = []
    facts: dict[str, set[str]] = {}
    for directory in directories:
        cell = read_cell(directory)
        cells.append(cell)
        for key, value in _facts(directory, cell).items():
            facts.setdefault(key, set()).add(value)
    settings = _settings(cell.config for cell in cells)
    extra: dict[str, set[str]] = {
        "stage": {cell.stage for cell in cells},
        "model weights": {cell.model_revision for cell in cells},
    }
    for key, content in (found for cell in cells for found in cell.inputs):
        extra.setdefault(f"content of {key}", set()).add(content)
    settings |= {key: tuple(sorted(values)) for key, values in extra.items()}
    science = frozenset(extra).union(*(science_keys(cell) for cell in cells))
    joined = {key: ", ".join(sorted(values)) for key, values in facts.items()}
    return Side(name, frozenset(cell.digest for cell in cells), settings, science, joined)


def _configs_side(name: str, configs: Iterable[RunConfig]) -> Side:
    return Side(name, frozenset(), _settings(configs), None, {})


def _settings(configs: Iterable[RunConfig]) -> dict[str, tuple[str, ...]]:
    values: dict[str, set[str]] = {}
    for config in configs:
        for key, value in flat_config(config).items():
            values.setdefault(key, set()).add("null" if value is None else str(value))
    return {key: tuple(sorted(found)) for key, found in values.items()}


def _facts(directory: CellDir, cell: Cell) -> dict[str, str]:
    record = read_json(directory.provenance) or {}
    packages = record.pop("packages", {})
    flat = {**record, **{f"package {name}": version for name, version in packages.items()}}
    return {key: str(value) for key, value in flat.items() if key not in _OUTCOMES}


def _experiment_configs(path: Path) -> list[RunConfig]:
    experiment = load_experiment(path)
    given = parse(experiment.overrides)
    models = model_choices(experiment.model)
    return [config for model in models for config in expand([*model, *given])]


def _one(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _values(values: tuple[str, ...]) -> str:
    shown = ", ".join(values[:_SHOWN]) or "(none)"
    return shown + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")
