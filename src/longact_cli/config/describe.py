"""What the schema allows at each key, and a schema violation as one readable line."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import ValidationError

from longact_cli.config.schema import RunConfig
from longact_cli.errors import ConfigError

_HINTS = {
    "mask.sparsity": "the fraction of query/key rows that ARE updated",
}


@cache
def _schema() -> dict[str, Any]:
    return RunConfig.model_json_schema()


def _node(path: Iterable[str]) -> dict[str, Any]:
    node = _schema()
    for part in path:
        node = _resolve(node.get("properties", {}).get(part, {}))
    return node


def _resolve(node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        return dict(_schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]])
    return node


@cache
def known_keys() -> tuple[str, ...]:
    """Return every dotted key of the configuration, sections included."""
    keys: list[str] = []

    def visit(node: dict[str, Any], prefix: str) -> None:
        for name, child in node.get("properties", {}).items():
            keys.append(prefix + name)
            visit(_resolve(child), f"{prefix}{name}.")

    visit(_schema(), "")
    return tuple(keys)


def check_key(key: str) -> str | None:
    """Return a complaint about an unknown key, or None when it is known."""
    if key in known_keys():
        return None
    close = get_close_matches(key, known_keys(), n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"'{key}' is not a setting.{hint} `longact config show` lists all of them."


def allowed(key: str) -> str:
    """Say in words what the schema allows at a key, e.g. `a number from 0 to 1`."""
    text = _allowed(_node(key.split(".")))
    hint = _HINTS.get(key)
    return f"{text} ({hint})" if hint else text


def _allowed(node: dict[str, Any]) -> str:
    if "anyOf" in node:
        return " or ".join(_allowed(_resolve(option)) for option in node["anyOf"])
    if "enum" in node:
        return "one of: " + ", ".join(map(str, node["enum"]))
    if "const" in node:
        return f"'{node['const']}'"
    kind = str(node.get("type", "a value"))
    if kind == "array":
        item = _allowed(_resolve(node.get("items", {})))
        return f"a non-empty list, each item {item}"
    words = {
        "number": "a number",
        "integer": "a whole number",
        "string": "text",
        "boolean": "true or false",
        "null": "null",
        "object": "a mapping",
    }
    return words.get(kind, kind) + _bounds(node)


def _bounds(node: dict[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f" from {_plain(low)} to {_plain(high)}"
    parts = [
        f"{word} {_plain(node[key])}"
        for key, word in (
            ("minimum", "of at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "of at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in node
    ]
    return f" {' and '.join(parts)}" if parts else ""


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def complaints(error: ValidationError) -> tuple[str, ...]:
    """Turn a schema violation into one line per wrong setting, each with key, value and rule."""
    lines: dict[str, str] = {}
    for item in error.errors():
        key = ".".join(part for part in item["loc"] if isinstance(part, str))
        line = _complaint(key, str(item["type"]), str(item["msg"]), item["input"])
        lines.setdefault(key, line)
    return tuple(lines.values())


def _complaint(key: str, kind: str, message: str, value: object) -> str:
    if kind == "extra_forbidden":
        return check_key(key) or f"'{key}' is not allowed here"
    if kind == "value_error":
        text = message.removeprefix("Value error, ")
        return f"{key}: {text}" if key else text
    if kind == "missing":
        return f"{key} is not set; it must be {allowed(key)}"
    shown = f"'{value}'" if isinstance(value, str) else value
    return f"{key} is {shown}; it must be {allowed(key)}"


def config_error(lines: Iterable[str]) -> ConfigError:
    """Bundle complaints into one error: a single line, or a block with one line each."""
    found = tuple(lines)
    if len(found) == 1:
        return ConfigError(found[0])
    return ConfigError("\n".join([f"{len(found)} settings are wrong:", *found]))
