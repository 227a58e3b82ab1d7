"""Read and check InfiniteBench's files, one row at a time: a file can be larger than the memory."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from longact_cli.errors import ConfigError
from longact_cli.evaluation.data_file import DataSource, find_data_file
from longact_cli.evaluation.infinitebench.prompts import Row
from longact_cli.evaluation.infinitebench.tasks import TASKS

HUB_ID = "xinrongzhang2022/InfiniteBench"

_ADVICE = f"download it again from https://huggingface.co/datasets/{HUB_ID}"


class Place(NamedTuple):
    """Where a row lies: byte offset and line number (from 1) in its file."""

    path: Path
    offset: int
    line: int


def task_file(task: str, data_dir: str | None) -> Path:
    """Return the file of a task, after a download where no folder is given.

    Raises:
        ConfigError: It is not in the folder.
        PrerequisiteError: It cannot be downloaded.
    """
    return find_data_file(f"{task}.jsonl", DataSource("infinitebench", HUB_ID, data_dir))


def find_rows(task: str, data_dir: str | None) -> tuple[Place, ...]:
    """Return the places of all rows of a task, in the order of its file.

    Raises:
        PrerequisiteError: The file cannot be downloaded.
        ConfigError: It is missing, or has another number of rows than the benchmark.
    """
    path = task_file(task, data_dir)
    places = tuple(_places(path))
    if len(places) != TASKS[task].samples:
        raise ConfigError(
            f"{path} has {len(places)} rows instead of {TASKS[task].samples}; {_ADVICE}"
        )
    return places


def _places(path: Path) -> Iterator[Place]:
    offset = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield Place(path, offset, number)
            offset += len(line)


def read_row(place: Place) -> Row:
    """Return one row.

    Raises:
        ConfigError: It is not valid JSON, or a field is missing or of the wrong type.
    """
    with place.path.open("rb") as stream:
        stream.seek(place.offset)
        line = stream.readline()
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise row_error(place, f"not valid JSON ({error})") from None
    if not isinstance(row, Mapping):
        raise row_error(place, "no JSON object")
    for key in ("context", "input"):
        if not isinstance(row.get(key), str):
            raise row_error(place, f"'{key}' is missing or no text")
    return Row(
        id=str(row.get("id", place.line - 1)),
        context=row["context"],
        input=row["input"],
        answer=_answer(row.get("answer"), place),
        options=_options(row.get("options"), place),
    )


def _answer(value: object, place: Place) -> tuple[str | int | float, ...]:
    """Return the answers; the list inside the list of math_calc is opened."""
    values = value if isinstance(value, list) else [value]
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    found = tuple(item for item in values if isinstance(item, str | int | float))
    if not found or len(found) != len(values):
        raise row_error(place, "'answer' is missing or neither text nor number")
    return found


def _options(value: object, place: Place) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [] if value is None else [None]
    found = tuple(item for item in values if isinstance(item, str))
    if len(found) != len(values):
        raise row_error(place, "'options' is no list of texts")
    return found


def row_error(place: Place, reason: str) -> ConfigError:
    """Return the error for a row that cannot be used."""
    return ConfigError(f"{place.path}, line {place.line}: {reason}; {_ADVICE}")
