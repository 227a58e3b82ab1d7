"""Axes of a sweep to typed configurations, one for each combination."""

from collections.abc import Sequence
from itertools import product
from math import prod
from pathlib import Path

from longact_cli.config.compose import Assignment, check_count, compose, options
from longact_cli.config.schema import RunConfig
from longact_cli.errors import ConfigError
from longact_cli.registry import unknown_name


def expand(assignments: Sequence[Assignment]) -> tuple[RunConfig, ...]:
    """Return one configuration for each combination of values, in the order given.

    Raises:
        ConfigError: An option has no value, a combination breaks the schema, or there are too many.
    """
    for item in assignments:
        if not item.values:
            raise ConfigError(
                f"the sweep is empty: {item.key} has no value; give at least one, "
                f"e.g. {item.key}=0.1,0.3"
            )
    check_count(prod(len(item.values) for item in assignments), "the sweep")
    choices = [
        [Assignment(item.key, (text,), (value,)) for text, value in zip(*item[1:], strict=True)]
        for item in assignments
    ]
    return tuple(compose(combination) for combination in product(*choices))


def model_choices(text: str | None) -> list[list[Assignment]]:
    """Return the settings that select each model of a comma list.

    A word that names no known model is taken as a folder or a hub id when it holds a slash or
    exists; else it is an unknown name.

    Raises:
        UnknownNameError: A word is neither.
    """
    if text is None:
        return [[]]
    choices: list[list[Assignment]] = []
    known = [name for name in options("model") if name != "path"]
    for word in filter(None, text.split(",")):
        if word in known:
            choices.append([Assignment("model", (word,), (word,))])
        elif "/" in word or Path(word).exists():
            path = str(Path(word).resolve()) if Path(word).exists() else word
            name = Path(word).name
            choices.append(
                [
                    Assignment("model", ("path",), ("path",)),
                    Assignment("model.name", (name,), (name,)),
                    Assignment("model.path", (path,), (path,)),
                ]
            )
        else:
            raise unknown_name("--model", word, [*known, "a folder or hub id with a slash"])
    if not choices:
        raise ConfigError("the sweep is empty: --model has no value; give at least one")
    return choices
