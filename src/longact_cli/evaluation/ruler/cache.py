"""Measured sizes of RULER samples on disk: a prompt is made from its size without counting tokens.

One small file per task and length, in `$LONGACT_CACHE`, else `$XDG_CACHE_HOME/longact`, else
`~/.cache/longact`. Texts are not stored: the full grid would take gigabytes, and the size, together
with the sample's coordinates, makes the same text again in milliseconds.
"""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from longact_cli.evaluation.ruler.data import data_key, file_key, spare_file
from longact_cli.evaluation.ruler.generator import GENERATOR_VERSION, RulerSource, find_task
from longact_cli.evaluation.ruler.templates import CweTask, NiahTask, QaTask
from longact_cli.files import append_lines, sha256_json

_LOG = logging.getLogger(__name__)


class Size(NamedTuple):
    """What was measured of one sample."""

    units: int
    prompt_tokens: int
    prompt_sha256: str
    references: tuple[str, ...]


class SizeCache:
    """The sizes of one task at one length, by sample index.

    Where the folder cannot be written, sizes are measured again next time. A damaged line costs
    only its own sample, and is reported in one line.
    """

    def __init__(self, task: str, context_length: int, *, source: RulerSource) -> None:
        """Read what is known of these samples."""
        key = sha256_json([task, context_length, _source_key(task, source)])[:16]
        self._path = cache_dir() / "ruler" / f"{task}-{context_length}-{key}.jsonl"
        self._known = dict(_read(self._path))

    def get(self, index: int) -> Size | None:
        """Return the size of a sample, or None."""
        return self._known.get(index)

    def known(self, index: int) -> Size:
        """Return the size of a sample that is known.

        Raises:
            KeyError: It is not.
        """
        return self._known[index]

    def add(self, sizes: dict[int, Size]) -> None:
        """Keep new sizes, here and on disk."""
        self._known |= sizes
        rows = [[index, *size] for index, size in sizes.items()]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_lines(self._path, [[*row, sha256_json(row)[:8]] for row in rows])
        except OSError:
            return


def cache_dir() -> Path:
    """Return the folder of everything that can be made again."""
    if own := os.environ.get("LONGACT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longact"


def data_name(task: str) -> str | None:
    """Return which data a task needs: essays, squad or hotpotqa; None where it needs none."""
    definition = find_task(task)
    if isinstance(definition, QaTask):
        return definition.data
    needs_essays = isinstance(definition, NiahTask) and definition.haystack == "essay"
    return "essays" if needs_essays else None


def data_of(task: str, data_dir: str | None) -> str:
    """Return a text that changes with the data a task needs; `none` where it needs none.

    Raises:
        ConfigError: A file is not in the folder.
    """
    name = data_name(task)
    if name is not None:
        return data_key(name, data_dir)
    spare = spare_file(data_dir) if isinstance(find_task(task), CweTask) else None
    return "none" if spare is None else file_key(spare)


def _source_key(task: str, source: RulerSource) -> list[str]:
    settings = (
        GENERATOR_VERSION,
        source.seed,
        source.split,
        source.chat_template,
        source.answer_prefix,
        source.thinking_tokens,
        source.tokenizer_sha256,
        data_of(task, source.data_dir),
    )
    return [str(setting) for setting in settings]


def _read(path: Path) -> Iterator[tuple[int, Size]]:
    """Yield the lines that are whole."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    damaged = 0
    for line in text.split("\n")[:-1]:
        found = _parse(line)
        if found is None:
            damaged += 1
        else:
            yield found
    if damaged:
        _LOG.warning("%s has %d damaged lines: these sizes are measured again", path, damaged)


def _parse(line: str) -> tuple[int, Size] | None:
    """Return the index and size of a whole line, None for a damaged one."""
    try:
        *row, check = json.loads(line)
        index, units, tokens, digest, references = row
    except (json.JSONDecodeError, TypeError, ValueError):
        return None
    if sha256_json(row)[:8] != check:
        return None
    return index, Size(units, tokens, digest, tuple(references))
