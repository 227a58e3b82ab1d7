"""Checks of a plan before anything is written: paths, windows, the store itself."""

import os
from contextlib import suppress
from pathlib import Path

from longact_cli.config.describe import config_error
from longact_cli.config.schema import RunConfig
from longact_cli.errors import ConfigError, LongActError, PrerequisiteError
from longact_cli.models.loading import context_window, resolve_checkpoint
from longact_cli.plan import Cell, Plan, flat_config
from longact_cli.redaction import holds_secret

_FOLDERS = ("cells", "plans", "artifacts", "cache", "cancelled", "reports", "slurm")


def check_runs_dir(runs_dir: Path, *, writes: bool = True) -> None:
    """Refuse a store that is not, and cannot become, a folder to write in, or leads out of itself.

    Args:
        runs_dir: The store.
        writes: Whether anything is to be written into it.

    Raises:
        ConfigError: The path, or a parent of it, is a file or cannot be written to; or a folder in
            it is a link to somewhere else.
    """
    nearest = next(path for path in (runs_dir, *runs_dir.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError(
            f"--runs-dir is {runs_dir}; {nearest} is a file: give a folder, "
            "which is made if it does not exist"
        )
    if writes and not os.access(nearest, os.W_OK):
        raise ConfigError(
            f"--runs-dir is {runs_dir}; {nearest} cannot be written to: give another folder"
        )
    _check_inside(runs_dir)


def _check_inside(runs_dir: Path) -> None:
    """Refuse a store whose folders lead out of it: cells would be written where nobody looks."""
    root = runs_dir.resolve()
    for name in _FOLDERS:
        folder = runs_dir / name
        entries = [folder, *(folder.iterdir() if name == "cells" and folder.is_dir() else ())]
        for entry in entries:
            if entry.is_symlink() and not entry.resolve().is_relative_to(root):
                raise ConfigError(
                    f"--runs-dir is {runs_dir}; {entry} is a link to {entry.resolve()}, outside "
                    "of it: replace the link by the folder, or make the whole runs folder a link"
                )


def check_plan(plan: Plan, *, runs: bool = True) -> None:
    """Refuse a plan that would fail for a reason that can be known now.

    Args:
        plan: The cells.
        runs: Whether they are to run on this machine; one that is only looked at may lack a
            backend.

    Raises:
        ConfigError: Every complaint, one line each.
        PrerequisiteError: A backend is not installed.
    """
    from longact_cli.evaluation.inputs import check_backend  # imports numpy and more

    lines: dict[str, None] = {}
    seen: set[tuple[object, ...]] = set()
    for cell in plan.cells:
        for line in _secrets(cell.config):
            lines[line] = None
        if cell.stage == "eval":
            with suppress(*() if runs else (PrerequisiteError,)):
                check_backend(cell.config.benchmark)
        asked = _looked_at(cell)
        if asked in seen:
            continue
        seen.add(asked)
        for line in _complaints(cell.config, trains=cell.stage == "train"):
            lines[line] = None
    if lines:
        raise config_error(lines)


def _looked_at(cell: Cell) -> tuple[object, ...]:
    """Return what the complaints about a cell are a function of."""
    config = cell.config
    if cell.stage == "eval":
        return cell.stage, config.model.model_dump_json(), config.benchmark.model_dump_json()
    parts = (config.model, config.data, config.mask)
    completion = config.algorithm.max_completion_tokens
    return cell.stage, completion, *(part.model_dump_json() for part in parts)


def _secrets(config: RunConfig) -> list[str]:
    """Return a complaint for each setting that holds a secret: settings are stored with results."""
    return [
        f"{key} holds a password or token, and settings are stored with every run: put it into "
        "an environment variable or a file of the library that needs it, and leave it out here"
        for key, value in flat_config(config).items()
        if isinstance(value, str) and holds_secret(value)
    ]


def _complaints(config: RunConfig, *, trains: bool) -> list[str]:
    from longact_cli.evaluation.inputs import check_inputs

    try:
        if trains:
            _check_training(config)
        else:
            check_inputs(config.model, config.benchmark)
    except LongActError as error:
        return [str(error)]
    return []


def _check_training(config: RunConfig) -> None:
    from longact_cli.evaluation.ruler.generator import find_task
    from longact_cli.training.context_lengths import check_context_lengths
    from longact_cli.training.keychain import KEYCHAIN

    for task in config.data.tasks if config.data.path is None else ():
        if task != KEYCHAIN:
            find_task(task, key="data.tasks")
    checkpoint = resolve_checkpoint(config.model)
    try:
        window = context_window(checkpoint, revision=config.model.revision)
    except PrerequisiteError:
        # A hub checkpoint that is not on this machine yet: its own process checks again.
        return
    window = min(window, config.model.max_context or window)
    lengths = config.data.context_lengths
    if max(lengths) > window:
        raise ConfigError(
            f"data.context_lengths is {max(lengths)}; {config.model.name} has a window of {window} "
            f"tokens: give lengths of at most {window}"
        )
    check_context_lengths(config, checkpoint=Path(checkpoint), window=window)
