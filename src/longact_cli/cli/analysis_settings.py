"""The options of `longact analyze` as settings, every mistake said in one line."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from longact_cli.cli import options as opt
from longact_cli.errors import ConfigError, LongActError

if TYPE_CHECKING:
    from longact_cli.analysis.settings import (
        AnalysisSettings,
        Change,
        Context,
        PromptFiles,
        Subject,
    )
    from longact_cli.config.schema import RunConfig

_LONGEST_DEFAULT = 8192
_SHORT_SHARE = 8
_READ = ("data", "data.tasks", "data.chat_template")
_SHORTEST_GENERATED = 256  # RULER's frames alone take about 200 tokens

Word = TypeVar("Word", bound=str)


class Asked(NamedTuple):
    """What was given on the command line.

    Attributes:
        model: Comma list, or None.
        lengths: Long and short, None where not given.
        sites: Comma list, as are the next two.
        statistics: See `sites`.
        strategies: See `sites`.
        sparsity: Fraction of rows in a set.
        prompts: Per length and seed.
        seeds: A count or a list.
        data: Files of long and of short prompts.
        pair: Checkpoints before and after a run.
        cell: Digest of a training run.
        study: Name of a study.
        overrides: Trailing `key=value`.
    """

    model: str | None
    lengths: tuple[int | None, int | None]
    sites: str
    statistics: str
    strategies: str
    sparsity: float
    prompts: int
    seeds: str
    data: tuple[Path | None, Path | None]
    pair: tuple[Path | None, Path | None]
    cell: str | None
    study: str | None
    overrides: tuple[str, ...]


def settings_from(asked: Asked, runs_dir: Path) -> "AnalysisSettings":
    """Return the settings of an analysis.

    Raises:
        ConfigError: An option is wrong, or two do not go together.
        NotFoundError: The store lacks what `--cell` or `--study` name.
    """
    from longact_cli.analysis import settings as known
    from longact_cli.cli.ablate import seed_list

    _check_numbers(asked)
    configs = _configs(asked)
    subjects, changes = _sources(asked, runs_dir, configs)
    config = configs[0]
    seeds = tuple(int(seed) for seed in (seed_list(asked.seeds) or "").split(","))
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds is '{asked.seeds}'; give every seed once")
    return known.AnalysisSettings(
        subjects=subjects,
        changes=changes,
        contexts=_contexts(asked.lengths, subjects),
        sites=_words("--site", asked.sites, known.SITES),
        statistics=_words("--statistic", asked.statistics, known.STATISTIC_NAMES),
        strategies=_words("--mask", asked.strategies, known.COMPARABLE, empty=True),
        sparsity=asked.sparsity,
        prompts=asked.prompts,
        seeds=seeds,
        tasks=config.data.tasks,
        chat_template=config.data.chat_template,
        files=_files(asked.data),
    )


def _check_numbers(asked: Asked) -> None:
    if not 0 < asked.sparsity < 1:
        raise ConfigError(
            f"--sparsity is {asked.sparsity}; it must lie above 0 and below 1, since all rows "
            "always agree: the paper uses 0.3"
        )
    for name, value in (
        ("--prompts", asked.prompts),
        ("--length", asked.lengths[0]),
        ("--short-length", asked.lengths[1]),
    ):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; it must be a whole number of at least 1")
    for one, two in ((asked.cell, asked.study), (asked.cell, asked.pair[0])):
        if one is not None and two is not None:
            raise ConfigError("--cell, --study and --before/--after name a run each; give one")
    if asked.study is not None and asked.pair[0] is not None:
        raise ConfigError("--cell, --study and --before/--after name a run each; give one")
    if (asked.pair[0] is None) != (asked.pair[1] is None):
        raise ConfigError("--before and --after belong together; give both or none")


def _words(key: str, text: str, known: Iterable[Word], *, empty: bool = False) -> tuple[Word, ...]:
    from longact_cli.registry import unknown_name

    allowed = {str(word): word for word in known}
    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for word in words:
        if word not in allowed:
            raise unknown_name(key, word, allowed)
    if not words and not empty:
        raise ConfigError(f"{key} is empty; give some of: {', '.join(allowed)}")
    return tuple(allowed[word] for word in words)


def _configs(asked: Asked) -> "list[RunConfig]":
    """Return one configuration for each model; that of the default model where none is given."""
    from longact_cli.analysis.sources import expand_folder
    from longact_cli.config.compose import compose
    from longact_cli.config.sweep import model_choices

    words = [word for word in (asked.model or "").split(",") if word]
    if asked.model is not None and not words:
        raise ConfigError("--model is empty; give a name, a folder or a hub id")
    _check_overrides(asked.overrides)
    given = opt.assignments([], asked.overrides)
    choices = [
        choice for word in words for path in expand_folder(word) for choice in model_choices(path)
    ]
    configs = [compose([*choice, *given]) for choice in choices or [[]]]
    if configs[0].data.path is not None:
        raise ConfigError(f"data.path is '{configs[0].data.path}'; give prompts by --data instead")
    return configs


def _check_overrides(overrides: Iterable[str]) -> None:
    """Refuse settings that an analysis does not read: they would do nothing.

    Raises:
        ConfigError: There is one.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if key not in _READ and not key.startswith("model."):
            raise ConfigError(
                f"'{key}' changes nothing in an analysis; it reads model.*, {', '.join(_READ)}: "
                "see longact analyze --help for the rest"
            )


def _sources(
    asked: Asked, runs_dir: Path, configs: "list[RunConfig]"
) -> "tuple[tuple[Subject, ...], tuple[Change, ...]]":
    from longact_cli.analysis import sources

    named = sources.label_models(config.model for config in configs)
    if asked.cell is not None:
        steps, change = sources.cell_steps(runs_dir, asked.cell)
        return (named if asked.model else steps), (change,)
    if asked.study is not None:
        changes = sources.study_changes(runs_dir, asked.study)
        base = sources.label_models([sources.one_base(changes)])
        return (named if asked.model else base), changes
    before, after = asked.pair
    if before is not None and after is not None:
        change = sources.change_between(before, after)
        pair = sources.label_models([change.before, change.after])
        return (named if asked.model else pair), (change,)
    return named, ()


def _contexts(
    lengths: tuple[int | None, int | None], subjects: "tuple[Subject, ...]"
) -> "tuple[Context, Context]":
    from longact_cli.analysis.settings import Context

    window, narrowest = min((_window(subject), subject.label) for subject in subjects)
    long = lengths[0] or min(window, _LONGEST_DEFAULT)
    short = lengths[1] or max(long // _SHORT_SHARE, min(_SHORTEST_GENERATED, long // 2))
    if long > window:
        raise ConfigError(
            f"--length is {long}; {narrowest} has a window of {window} tokens: give at most that"
        )
    if short >= long:
        raise ConfigError(
            f"--short-length is {short} and --length is {long}; the short context must be shorter"
        )
    return Context("long", long), Context("short", short)


def _window(subject: "Subject") -> int:
    """Return a model's window; a model that is not on this machine yet is checked when it is."""
    from longact_cli.models.loading import context_window, resolve_checkpoint

    checkpoint = resolve_checkpoint(subject.model)
    try:
        window = context_window(checkpoint)
    except LongActError:
        return subject.model.max_context or _LONGEST_DEFAULT
    return min(window, subject.model.max_context or window)


def _files(paths: tuple[Path | None, Path | None]) -> "PromptFiles":
    from longact_cli.analysis.settings import PromptFiles

    long, short = paths
    if long is None and short is not None:
        raise ConfigError("--short-data is given without --data; give the long prompts too")
    for key, path in (("--data", long), ("--short-data", short)):
        if path is not None and not path.is_file():
            raise ConfigError(f"{key} is {path}; there is no such file")
    return PromptFiles(long, short)
