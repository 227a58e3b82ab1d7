"""From configuration groups and overrides to a typed configuration. The only importer of Hydra."""

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from longact_cli.config.describe import check_key, complaints, config_error
from longact_cli.config.schema import RunConfig
from longact_cli.errors import ConfigError
from longact_cli.registry import unknown_name

MOST_COMBINATIONS = 10_000
_PRESET_BENCHMARK = "ruler"


class Assignment(NamedTuple):
    """`key=value` as Hydra reads it; several values where the text is a sweep."""

    key: str
    texts: tuple[str, ...]
    values: tuple[Any, ...]


def config_dir() -> Path:
    """Return the folder of configuration groups: the packaged one, or the checkout's."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parents[1] / "conf"


@cache
def groups() -> tuple[str, ...]:
    """Return the names of all configuration groups."""
    return tuple(sorted(entry.name for entry in config_dir().iterdir() if entry.is_dir()))


@cache
def options(group: str) -> tuple[str, ...]:
    """Return the choices of one group."""
    return tuple(sorted(path.stem for path in (config_dir() / group).glob("*.yaml")))


def parse(texts: Sequence[str]) -> tuple[Assignment, ...]:
    """Read overrides such as `mask.sparsity=0.1,0.3` or `algorithm=dapo`.

    Raises:
        ConfigError: One or more are malformed, or name an unknown key or choice.
    """
    parsed: list[Assignment] = []
    wrong: list[str] = []
    for text in texts:
        try:
            assignment = _parse_one(text)
        except ConfigError as error:
            wrong.append(str(error))
            continue
        wrong += _unknown(assignment)
        parsed.append(assignment)
    if wrong:
        raise config_error(wrong)
    return tuple(parsed)


def _parse_one(text: str) -> Assignment:
    try:
        override: Override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"'{text}' is not an override ({reason}); write key=value, e.g. mask.refresh_every=4"
        ) from None
    key = override.key_or_group
    if override.is_delete() or override.is_add() or override.package is not None:
        raise ConfigError(f"'{text}' adds or removes a key; only key=value is allowed")
    if override.is_sweep_override():
        items = _sweep_items(override)
        return Assignment(key, items, tuple(_parse_one(f"{key}={i}").values[0] for i in items))
    return Assignment(key, (override.get_value_element_as_str(),), (_plain(override.value()),))


def _sweep_items(override: Override) -> tuple[str, ...]:
    """Return the values of a sweep as text.

    Hydra adds a step to a float again and again, so that range(0.1,0.4,0.1) holds
    0.30000000000000004 and 0.4; decimals hold 0.3, which is the same cell as `0.3` given by hand.
    """
    sweep = override.value()
    if isinstance(sweep, Glob) or not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.input_line} names no single values; give them: "
            f"{override.key_or_group}=a,b or choice(a,b) or range(start,stop,step)"
        )
    if not isinstance(sweep, RangeSweep):
        return tuple(override.sweep_string_iterator())
    if sweep.step == 0:
        raise ConfigError(f"{override.input_line} steps by 0; give another step, e.g. 1 or 0.1")
    start, stop, step = (Decimal(str(number)) for number in (sweep.start, sweep.stop, sweep.step))
    count = max(0, ceil((stop - start) / step))
    check_count(count, override.input_line)
    if sweep.shuffle or not isinstance(sweep.step, float):
        return tuple(override.sweep_string_iterator())
    return tuple(str(start + step * index) for index in range(count))


def check_count(count: int, named: str) -> None:
    """Refuse a sweep that nobody can have meant, before it is spelled out.

    Raises:
        ConfigError: It has more than `MOST_COMBINATIONS` values or combinations.
    """
    if count > MOST_COMBINATIONS:
        raise ConfigError(
            f"{named} makes {count} combinations; a sweep holds at most {MOST_COMBINATIONS}: "
            "give fewer values, or divide it into several commands"
        )


def _plain(value: Any) -> Any:
    """Strip Hydra's quoting from strings."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if type(value).__name__ == "QuotedString" else value


def _unknown(assignment: Assignment) -> list[str]:
    if assignment.key in groups():
        known = options(assignment.key)
        return [
            str(unknown_name(assignment.key, str(value), known))
            for value in assignment.values
            if str(value) not in known
        ]
    complaint = check_key(assignment.key)
    return [complaint] if complaint else []


def is_group(key: str) -> bool:
    """Return whether a key selects a whole file, such as `algorithm`."""
    return key in groups()


@cache
def _composed(overrides: tuple[str, ...]) -> Any:
    """Compose without validation; cached since a sweep asks for the same groups many times."""
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
            tree = hydra_compose("train", overrides=list(overrides))
        return OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"the configuration does not compose: {message}") from None


def compose(assignments: Sequence[Assignment]) -> RunConfig:
    """Compose and validate one configuration.

    Group choices go through Hydra; single values are set on the composed tree, later ones winning.

    Raises:
        ConfigError: A value breaks the schema (all such values are listed), or is a sweep.
    """
    for assignment in assignments:
        if len(assignment.values) != 1:
            raise ConfigError(
                f"{assignment.key} has {len(assignment.values)} values; "
                "one run takes one value: use `longact ablate` to sweep"
            )
    chosen = _with_preset([item for item in assignments if is_group(item.key)])
    tree = _copy(_composed(_texts(chosen)))
    if tree["benchmark"]["name"] != _PRESET_BENCHMARK:
        # A preset sizes one benchmark; the tasks of another are not its business.
        tree["benchmark"] = _copy(_composed((*_texts(chosen), "preset=none"))["benchmark"])
    for item in assignments:
        if not is_group(item.key):
            _set(tree, item.key, item.values[0])
    return validate(tree)


def validate(tree: Any) -> RunConfig:
    """Turn a plain tree into a typed configuration.

    Raises:
        ConfigError: It breaks the schema; every wrong setting is listed.
    """
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        raise config_error(complaints(error)) from None
    named = {
        "mask.strategy": ("mask", config.mask.strategy),
        "algorithm.name": ("algorithm", config.algorithm.name),
        "benchmark.name": ("benchmark", config.benchmark.name),
    }
    wrong = [
        str(unknown_name(key, name, options(group)))
        for key, (group, name) in named.items()
        if name not in options(group)
    ]
    if wrong:
        raise config_error(wrong)
    return config


def _with_preset(chosen: Sequence[Assignment]) -> list[Assignment]:
    """Let a model bring the sizes that suit it, unless a preset was asked for."""
    names = {item.key: str(item.values[0]) for item in chosen}
    if "preset" in names or "model" not in names:
        return list(chosen)
    preset = names["model"] if names["model"] in options("preset") else "none"
    return [*chosen, Assignment("preset", (preset,), (preset,))]


def _texts(chosen: Sequence[Assignment]) -> tuple[str, ...]:
    return tuple(f"{item.key}={item.texts[0]}" for item in chosen)


def _copy(tree: Any) -> Any:
    return {k: _copy(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def _set(tree: Any, key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        tree = tree[part]
    tree[last] = value
