"""Which models an analysis measures: from folders, and from the cells of a store."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from longact_cli.analysis.settings import Change, Subject
from longact_cli.cells import CellDir, is_done, list_cells, read_cell
from longact_cli.config.schema import ModelConfig
from longact_cli.errors import ConfigError, NotFoundError
from longact_cli.files import read_json
from longact_cli.plan import Cell
from longact_cli.training.checkpoints import checkpoint_step, is_complete, list_checkpoints

_SHOWN_DIGITS = 12


def folder_model(path: Path) -> ModelConfig:
    """Return the model in a folder.

    Raises:
        ConfigError: It holds no checkpoint.
    """
    if not (path / "config.json").is_file():
        raise ConfigError(
            f"{path} holds no config.json; give a folder with a Hugging Face checkpoint"
        )
    return ModelConfig(name=path.name, path=str(path.resolve()))


def expand_folder(text: str) -> tuple[str, ...]:
    """Return the checkpoints in a folder of them, by step; anything else as it is."""
    path = Path(text)
    if not path.is_dir() or (path / "config.json").exists():
        return (text,)
    return tuple(str(found) for found in reversed(list_checkpoints(path))) or (text,)


def label_models(models: Iterable[ModelConfig]) -> tuple[Subject, ...]:
    """Return models with labels that differ: the name, with its parent's where names repeat.

    Raises:
        ConfigError: A model is given twice.
    """
    given = list(models)
    names = [model.name for model in given]
    subjects = []
    for model in given:
        label = model.name
        if names.count(label) > 1 and model.path is not None:
            label = "/".join(Path(model.path).parts[-2:])
        subjects.append(Subject(label, model))
    labels = [subject.label for subject in subjects]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"--model has '{label}' twice; give every model once")
    return tuple(subjects)


def change_between(before: Path, after: Path) -> Change:
    """Return the pair of two folders.

    Raises:
        ConfigError: A folder holds no checkpoint.
    """
    label = f"{before.resolve().name} to {after.resolve().name}"
    return Change(label, folder_model(before), folder_model(after))


def cell_steps(runs_dir: Path, digest: str) -> tuple[tuple[Subject, ...], Change]:
    """Return a training run's models, from base over its checkpoints to the end, and its change.

    Raises:
        NotFoundError: No cell begins with these digits.
        ConfigError: Several do, or the cell is not a finished training run.
    """
    wanted = digest[:_SHOWN_DIGITS]
    found = [d for d in list_cells(runs_dir) if wanted and d.path.name.startswith(wanted)]
    if not found:
        raise NotFoundError(
            f"--cell is '{digest}'; {runs_dir} has no such cell: see longact status"
        )
    if len(found) > 1:
        names = ", ".join(directory.path.name for directory in found)
        raise ConfigError(f"--cell is '{digest}'; it must name one of: {names}")
    directory, cell = found[0], read_cell(found[0])
    if cell.stage != "train" or not is_done(directory):
        raise ConfigError(
            f"--cell is '{digest}' ({cell.label}); it must be a training run that is done: see "
            "longact status"
        )
    base = Subject(cell.config.model.name, cell.config.model)
    end = Subject(f"step {cell.config.algorithm.steps}", _trained(directory, cell))
    return (base, *_between(directory, cell), end), _change(directory, cell)


def _between(directory: CellDir, cell: Cell) -> Iterator[Subject]:
    """Yield the whole checkpoints that the run left before its end."""
    for path in reversed(list_checkpoints(directory.path / "checkpoints")):
        step = checkpoint_step(path)
        if step < cell.config.algorithm.steps and is_complete(path):
            model = cell.config.model.model_copy(update={"path": str(path.resolve())})
            yield Subject(f"step {step}", model)


def study_changes(runs_dir: Path, study: str) -> tuple[Change, ...]:
    """Return what the finished dense runs of a study changed.

    Raises:
        NotFoundError: There is none.
    """
    digests = {
        cell["digest"]
        for path in sorted((runs_dir / "plans").glob("*.json"))
        if (plan := read_json(path)) and plan.get("study") == study
        for cell in plan["cells"]
    }
    found = []
    for directory in list_cells(runs_dir):
        if not any(digest.startswith(directory.path.name) for digest in digests):
            continue
        cell = read_cell(directory)
        if (cell.stage, cell.arm) == ("train", "dense") and is_done(directory):
            found.append(_change(directory, cell))
    if not found:
        raise NotFoundError(
            f"--study is '{study}'; {runs_dir} has no finished dense training run of it: run "
            f"longact ablate --study {study}, which trains one as a control"
        )
    return tuple(found)


def one_base(changes: Sequence[Change]) -> ModelConfig:
    """Return the model that all runs began with.

    Raises:
        ConfigError: They began with several.
    """
    bases = {change.before for change in changes}
    if len(bases) > 1:
        names = ", ".join(sorted(model.name for model in bases))
        raise ConfigError(f"the study trains several models ({names}); analyze its runs by --cell")
    return changes[0].before


def _change(directory: CellDir, cell: Cell) -> Change:
    label = f"{cell.arm} seed {cell.config.seed} ({cell.digest[:_SHOWN_DIGITS]})"
    return Change(label, cell.config.model, _trained(directory, cell))


def _trained(directory: CellDir, cell: Cell) -> ModelConfig:
    return cell.config.model.model_copy(update={"path": str(directory.model.resolve())})
