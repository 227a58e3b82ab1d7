"""Axes of a sweep to typed configurations, one for each combination."""

from collections.abc import Sequence
from itertools import product
from math import prod

from longact_cli.config.compose import Assignment, check_count, compose
from longact_cli.config.schema import RunConfig
from longact_cli.errors import ConfigError


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
