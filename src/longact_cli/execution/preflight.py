"""Checks of a plan before anything is written: paths, windows, the store itself."""

from pathlib import Path

from longact_cli.config.describe import config_error
from longact_cli.config.schema import RunConfig
from longact_cli.errors import ConfigError, LongActError, PrerequisiteError
from longact_cli.plan import Plan


def check_runs_dir(runs_dir: Path) -> None:
    """Refuse a store that is not, and cannot become, a folder.

    Raises:
        ConfigError: The path, or a parent of it, is a file.
    """
    for path in (runs_dir, *runs_dir.parents):
        if path.exists():
            if not path.is_dir():
                raise ConfigError(
                    f"--runs-dir is {runs_dir}; {path} is a file: give a folder, "
                    "which is made if it does not exist"
                )
            return


def check_plan(plan: Plan) -> None:
    """Refuse a plan that would fail for a reason that can be known now.

    Raises:
        ConfigError: Every complaint, one line each.
    """
    lines: dict[str, None] = {}
    for cell in plan.cells:
        for line in _complaints(cell.config, trains=cell.stage == "train"):
            lines[line] = None
    if lines:
        raise config_error(lines)


def _complaints(config: RunConfig, *, trains: bool) -> list[str]:
    from longact_cli.evaluation.evaluate import estimate  # imports numpy and more

    try:
        if trains:
            _check_training(config)
        else:
            estimate(config.benchmark)
            _check_lengths(config, "benchmark.context_lengths", config.benchmark.context_lengths)
    except LongActError as error:
        return [str(error)]
    return []


def _check_training(config: RunConfig) -> None:
    from longact_cli.evaluation.ruler.generator import find_task
    from longact_cli.training.keychain import KEYCHAIN

    for task in config.data.tasks if config.data.path is None else ():
        if task != KEYCHAIN:
            find_task(task, key="data.tasks")
    _check_lengths(config, "data.context_lengths", config.data.context_lengths)


def _check_lengths(config: RunConfig, key: str, lengths: tuple[int, ...]) -> None:
    from longact_cli.models.loading import context_window, resolve_checkpoint

    try:
        window = context_window(resolve_checkpoint(config.model))
    except PrerequisiteError:
        # A hub checkpoint that is not on this machine yet: its own process checks again.
        return
    if config.model.max_context is not None:
        window = min(window, config.model.max_context)
    if max(lengths) > window:
        raise ConfigError(
            f"{key} is {max(lengths)}; {config.model.name} has a window of {window} tokens: "
            f"give lengths of at most {window}"
        )
