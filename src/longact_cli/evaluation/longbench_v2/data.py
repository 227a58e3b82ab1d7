"""Read and check LongBench v2's one data file."""

import json
from collections.abc import Mapping
from pathlib import Path

from longact_cli.errors import ConfigError
from longact_cli.evaluation.data_file import DataSource, find_data_file
from longact_cli.evaluation.longbench_v2.prompts import Item
from longact_cli.evaluation.longbench_v2.score import DIFFICULTIES, LENGTHS, LETTERS

HUB_ID = "THUDM/LongBench-v2"
FILE_NAME = "data.json"
ITEMS = 503

_ADVICE = f"download {FILE_NAME} again from https://huggingface.co/datasets/{HUB_ID}"
_TEXTS = ("domain", "sub_domain", "question", "context", *(f"choice_{x}" for x in LETTERS))
_CLOSED = {"difficulty": DIFFICULTIES, "length": LENGTHS, "answer": LETTERS}


def data_file(data_dir: str | None) -> Path:
    """Return the data file, after a download where no folder is given.

    Raises:
        ConfigError: It is not in the folder.
        PrerequisiteError: It cannot be downloaded.
    """
    return find_data_file(FILE_NAME, DataSource("longbench-v2", HUB_ID, data_dir))


def load_items(data_dir: str | None) -> tuple[Item, ...]:
    """Return all 503 items in the order of the file.

    Raises:
        PrerequisiteError: The file cannot be downloaded.
        ConfigError: It is missing, has another number of items, or an item lacks something.
    """
    path = data_file(data_dir)
    rows = _read(path)
    if len(rows) != ITEMS:
        raise ConfigError(f"{path} has {len(rows)} items instead of {ITEMS}; {_ADVICE}")
    items = tuple(_item(row, number=i, path=path) for i, row in enumerate(rows, 1))
    if len({item.id for item in items}) != ITEMS:
        raise ConfigError(f"{path} has two items with the same _id; {_ADVICE}")
    return items


def _read(path: Path) -> list[object]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON ({error}); {_ADVICE}") from None
    if not isinstance(rows, list):
        raise ConfigError(f"{path} holds no list of items; {_ADVICE}")
    return rows


def _item(row: object, *, number: int, path: Path) -> Item:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{path}, item {number} is no JSON object; {_ADVICE}")
    for key in ("_id", *_TEXTS, *_CLOSED):
        value, allowed = row.get(key), _CLOSED.get(key)
        if not isinstance(value, str) or (allowed and value not in allowed):
            wanted = f"one of {', '.join(allowed)}" if allowed else "a text"
            shown = "missing" if key not in row else repr(value)[:40]
            raise ConfigError(f"{path}, item {number}: {key} is {shown}, not {wanted}; {_ADVICE}")
    return Item(
        id=row["_id"],
        domain=row["domain"],
        sub_domain=row["sub_domain"],
        difficulty=row["difficulty"],
        length=row["length"],
        question=row["question"],
        choices=(row["choice_A"], row["choice_B"], row["choice_C"], row["choice_D"]),
        answer=row["answer"],
        context=row["context"],
    )
