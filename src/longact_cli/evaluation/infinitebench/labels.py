"""Give InfiniteBench's labels the type that each task's scorer compares with.

The data set stores the same label as a number, as a text or in a list, depending on the task and on
how it was read; a label of the wrong type would never match and score 0 without a word.
"""

import json
import re
from collections.abc import Sequence
from typing import TypeGuard

Number = int | float

_SHOWN = 60
_INTEGER = re.compile(r"[+-]?\d+")


def first_text(label: object) -> str:
    """Return a text label, or the first one of a list; numbers become texts.

    Raises:
        ValueError: There is no such label.
    """
    value = label[0] if _is_filled_list(label) else label
    if isinstance(value, str):
        return value
    if _is_number(value):
        return str(value)
    raise ValueError(f"reference is {_shown(label)}; it must be a text or a list of texts")


def texts(label: object) -> tuple[str, ...]:
    """Return all texts of a list; a single text counts as a list of one.

    Raises:
        ValueError: There is none, or one is no text.
    """
    values = label if _is_filled_list(label) else [label]
    found = tuple(value for value in values if isinstance(value, str))
    if len(found) == len(values):
        return found
    raise ValueError(f"reference is {_shown(label)}; it must be a text or a list of texts")


def option(label: object) -> tuple[str, str]:
    """Return the (option text, option letter) of a multiple-choice label.

    Raises:
        ValueError: The label is not such a pair.
    """
    values = texts(label)
    if len(values) != 2:
        raise ValueError(f"reference is {_shown(label)}; it must be [option text, letter]")
    return values[0], values[1]


def number(label: object) -> Number:
    """Return a number, or the first one of a list; texts are read as int where they look like one.

    Raises:
        ValueError: There is none.
    """
    value = label[0] if _is_filled_list(label) else label
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value) if _INTEGER.fullmatch(value.strip()) else float(value)
        except ValueError:
            pass
    raise ValueError(f"reference is {_shown(label)}; it must be a number or a list of one")


def numbers(label: object) -> tuple[Number, ...]:
    """Return a list of numbers; a list inside a list, and a list written as text, are opened.

    Raises:
        ValueError: It is no such list, or empty.
    """
    values = label[0] if _is_filled_list(label) and _opens(label[0]) else label
    if isinstance(values, str) and _opens(values):
        values = json.loads(values)
    if not _is_filled_list(values):
        raise ValueError(f"reference is {_shown(label)}; it must be a list of numbers")
    return tuple(number(value) for value in values)


def _opens(value: object) -> bool:
    """Tell whether a value is a list, or a text that holds one."""
    return isinstance(value, list | tuple) or (isinstance(value, str) and value.startswith("["))


def _is_filled_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple) and len(value) > 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(label: object) -> str:
    text = json.dumps(label, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
