"""RULER's data that are not shipped: essays, SQuAD and HotpotQA, from a folder or from the hub.

Source of the layout: NVIDIA/RULER c3f5e3b, scripts/data/synthetic/niah.py and qa.py.
"""

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.evaluation.ruler.cwe import compounds
from longact_cli.evaluation.ruler.essay import Essays
from longact_cli.evaluation.ruler.qa import Collection, Question

SPARE_FILE = "english_words.json"
"""More words for cwe, where its lists do not suffice; optional."""


class _Source(NamedTuple):
    """Where a data set is found."""

    files: tuple[str, ...]
    schema: str
    address: str
    hub: tuple[str, str | None, str]
    """Name, configuration and split."""


_SOURCES = {
    "essays": _Source(
        ("PaulGrahamEssays.json",),
        '{"text": all essays}',
        "github.com/NVIDIA/RULER: scripts/data/synthetic/json/download_paulgraham_essay.py",
        ("baber/paul_graham_essays", None, "train"),
    ),
    "squad": _Source(
        ("squad.json", "dev-v2.0.json"),
        "of SQuAD 2.0: data > paragraphs > context, qas > question, answers, is_impossible",
        "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v2.0.json",
        ("rajpurkar/squad_v2", None, "validation"),
    ),
    "hotpotqa": _Source(
        ("hotpotqa.json", "hotpot_dev_distractor_v1.json"),
        '[{"question", "answer", "context": [[title, [sentence, ...]], ...]}]',
        "http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_dev_distractor_v1.json",
        ("hotpotqa/hotpot_qa", "distractor", "validation"),
    ),
}


@lru_cache(maxsize=4)
def load_essays(data_dir: str | None) -> Essays:
    """Return the essays' words.

    Raises:
        PrerequisiteError: They cannot be loaded from the hub; the message says how to get them.
        ConfigError: The file is missing or does not have the schema.
    """
    found = _load("essays", data_dir)
    text = found["text"] if isinstance(found, dict) else "".join(row["text"] for row in found)
    words = text.split()
    if not words:
        raise ConfigError(f"the essays of benchmark.data_dir={data_dir} are empty")
    return Essays(words)


@lru_cache(maxsize=4)
def load_collection(name: str, data_dir: str | None) -> Collection:
    """Return the questions and documents of `squad` or `hotpotqa`.

    Raises:
        PrerequisiteError: They cannot be loaded from the hub; the message says how to get them.
        ConfigError: The file is missing or does not have the schema.
    """
    found = _load(name, data_dir)
    read = _read_squad if name == "squad" else _read_hotpotqa
    collection = read(found)
    if not collection.questions:
        raise ConfigError(f"{name} of benchmark.data_dir={data_dir} has no question")
    return collection


def spare_file(data_dir: str | None) -> Path | None:
    """Return the file with more words for cwe, if the folder has it."""
    path = Path(data_dir or "") / SPARE_FILE
    return path if data_dir is not None and path.is_file() else None


@lru_cache(maxsize=4)
def spare_words(data_dir: str | None) -> tuple[str, ...]:
    """Return the words that follow those of the lists in long lists of common words.

    Raises:
        ConfigError: The file does not have the schema.
    """
    path = spare_file(data_dir)
    if path is None:
        return compounds()
    try:
        found = json.loads(path.read_text("utf-8"))
        words = list(found.values()) if isinstance(found, dict) else found
        for word in words:
            _require_text(word)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} does not have the schema {{key: word}} ({error}); get it from "
            "github.com/NVIDIA/RULER: scripts/data/synthetic/json/english_words.json"
        ) from None
    return tuple(dict.fromkeys(words))


def local_file(name: str, data_dir: str) -> Path:
    """Return the file of `essays`, `squad` or `hotpotqa` in a folder.

    Raises:
        ConfigError: It is not there; the message says how to get it.
    """
    return _path(_SOURCES[name], Path(data_dir))


def data_key(name: str, data_dir: str | None) -> str:
    """Return a text that changes when the data change: path, size and time, or the hub's name.

    Raises:
        ConfigError: The file is not in the folder.
    """
    source = _SOURCES[name]
    if data_dir is None:
        return f"hub {source.hub}"
    return file_key(_path(source, Path(data_dir)))


def file_key(path: Path) -> str:
    """Return a text that changes when a file changes: path, size and time."""
    state = path.stat()
    return f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"


def _path(source: _Source, folder: Path) -> Path:
    for file in source.files:
        if (folder / file).is_file():
            return folder / file
    raise ConfigError(
        f"benchmark.data_dir is {folder}; {source.files[0]} is not in it: "
        f"get it from {source.address}"
    )


def _load(name: str, data_dir: str | None) -> Any:
    """Return the raw data in the schema of the official files, checked."""
    source = _SOURCES[name]
    if data_dir is None:
        return _from_hub(name, source)
    path = _path(source, Path(data_dir))
    try:
        found = json.loads(path.read_text("utf-8"))
        _CHECKS[name](found)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not JSON ({error}); get it from {source.address}") from None
    except (KeyError, TypeError, IndexError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{path} does not have the schema {source.schema} ({reason})") from None
    return found


def _from_hub(name: str, source: _Source) -> Any:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    hub, config, split = source.hub
    try:
        rows = load_dataset(hub, config, split=split)
    except (OSError, DatasetNotFoundError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PrerequisiteError(
            f"{name} cannot be loaded from the hub ({reason}); give --data-dir with "
            f"{source.files[0]} from {source.address}"
        ) from None
    return _HUB[name](rows)


def _check_essays(found: Any) -> None:
    if not isinstance(found["text"], str):
        raise TypeError("text is not a string")


def _check_squad(found: Any) -> None:
    for article in found["data"]:
        for paragraph in article["paragraphs"]:
            _require_text(paragraph["context"])
            for asked in paragraph["qas"]:
                _require_text(asked["question"])
                if not asked["is_impossible"]:
                    _require_text(asked["answers"][0]["text"])


def _check_hotpotqa(found: Any) -> None:
    for row in found:
        _require_text(row["question"])
        _require_text(row["answer"])
        for title, sentences in row["context"]:
            _require_text(title)
            _require_text("".join(sentences))


def _require_text(value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")


def _squad_rows(rows: Iterable[Any]) -> Any:
    """Give the hub's flat rows the shape of the official file."""
    articles: dict[str, dict[str, list[Any]]] = {}
    for row in rows:
        texts = row["answers"]["text"]
        asked = {
            "question": row["question"],
            "answers": [{"text": text} for text in texts],
            "is_impossible": not texts,
        }
        paragraphs = articles.setdefault(row["title"], {})
        paragraphs.setdefault(row["context"], []).append(asked)
    return {
        "data": [
            {"paragraphs": [{"context": c, "qas": q} for c, q in paragraphs.items()]}
            for paragraphs in articles.values()
        ]
    }


def _hotpotqa_rows(rows: Iterable[Any]) -> Any:
    return [
        {
            "question": row["question"],
            "answer": row["answer"],
            "context": list(zip(row["context"]["title"], row["context"]["sentences"], strict=True)),
        }
        for row in rows
    ]


_CHECKS: dict[str, Callable[[Any], None]] = {
    "essays": _check_essays,
    "squad": _check_squad,
    "hotpotqa": _check_hotpotqa,
}
_HUB: dict[str, Callable[[Any], Any]] = {
    "essays": list,
    "squad": _squad_rows,
    "hotpotqa": _hotpotqa_rows,
}


def _read_squad(found: Any) -> Collection:
    paragraphs = [p["context"] for article in found["data"] for p in article["paragraphs"]]
    documents = tuple(sorted(set(paragraphs)))
    number = {text: place for place, text in enumerate(documents)}
    questions = []
    for article in found["data"]:
        article_numbers = [number[p["context"]] for p in article["paragraphs"]]
        for paragraph in article["paragraphs"]:
            own = number[paragraph["context"]]
            related = tuple(dict.fromkeys(n for n in article_numbers if n != own))
            questions += [
                Question(
                    asked["question"], tuple(a["text"] for a in asked["answers"]), (own,), related
                )
                for asked in paragraph["qas"]
                if not asked["is_impossible"]
            ]
    return Collection("squad", tuple(questions), documents)


def _read_hotpotqa(found: Any) -> Collection:
    def texts(row: Any) -> list[str]:
        return [f"{title}\n{''.join(sentences)}" for title, sentences in row["context"]]

    documents = tuple(sorted({text for row in found for text in texts(row)}))
    number = {text: place for place, text in enumerate(documents)}
    questions = tuple(
        Question(
            row["question"],
            (row["answer"],),
            tuple(dict.fromkeys(number[text] for text in texts(row))),
        )
        for row in found
    )
    return Collection("hotpotqa", questions, documents)
