"""The samples file while it grows: append-only, crash-safe, reused only by an equal evaluation."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from longact_cli.evaluation.usage import usage_path
from longact_cli.files import append_lines, read_json, write_json, write_text
from longact_cli.results import SampleResult


@dataclass(frozen=True)
class Origin:
    """What, besides the prompt, decides an answer. Answers of another origin are never reused."""

    checkpoint_sha256: str
    tokenizer_sha256: str
    backend: str
    dtype: str
    generation: str
    scorer: str
    packages: tuple[str, ...]


class Journal:
    """Answered samples on disk, one `SampleResult` per line, found again by id and prompt.

    The origin lies beside the samples (`samples.origin.json`), so that a line needs no key of its
    own. Failed samples are forgotten on opening: they get another chance. An empty answer is one
    that the model gave; it stays.
    """

    def __init__(self, path: Path, *, origin: Origin) -> None:
        """Open the journal; lines of another origin and a torn last line are dropped."""
        self._path = path
        self._known: dict[str, SampleResult] = {}
        origin_path = path.with_suffix(".origin.json")
        described = json.loads(json.dumps(asdict(origin)))
        path.parent.mkdir(parents=True, exist_ok=True)
        if read_json(origin_path) == described:
            self._recover()
        else:
            path.unlink(missing_ok=True)
            usage_path(path).unlink(missing_ok=True)
            write_json(origin_path, described)

    def _recover(self) -> None:
        """Read what is there and leave a file of whole, successful lines behind."""
        if not self._path.exists():
            return
        text = self._path.read_text(encoding="utf-8", errors="replace")
        self._known = {
            result.id: result
            for result in _whole_results(text)
            if result.error is None or result.completion is not None
        }
        whole = _text(self._known.values())
        if whole != text:
            write_text(self._path, whole)

    def get(self, identifier: str, *, prompt_sha256: str) -> SampleResult | None:
        """Return the answer to exactly this prompt, or None."""
        found = self._known.get(identifier)
        return found if found is not None and found.prompt_sha256 == prompt_sha256 else None

    def append(self, results: Sequence[SampleResult]) -> None:
        """Add answers; they are on the disk when this returns."""
        append_lines(self._path, [result._asdict() for result in results])
        self._known.update({result.id: result for result in results})

    def finish(self, order: Iterable[str]) -> tuple[SampleResult, ...]:
        """Rewrite the file in one step: exactly these ids, in this order."""
        results = tuple(self._known[identifier] for identifier in order)
        write_text(self._path, _text(results))
        return results


def damaged_lines(path: Path) -> tuple[int, ...]:
    """Return the numbers (from 1) of lines that cannot be read; a torn last line is none of them.

    Opening the journal leaves them out: only their samples are asked again.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    lines = text.split("\n")[:-1]
    return tuple(number for number, line in enumerate(lines, 1) if _result(line) is None)


def _whole_results(text: str) -> Iterator[SampleResult]:
    """Yield the results of all whole lines; a torn or damaged line costs only itself."""
    for line in text.split("\n")[:-1]:
        if (result := _result(line)) is not None:
            yield result


def _result(line: str) -> SampleResult | None:
    try:
        row = json.loads(line)
        return SampleResult(**{**row, "references": tuple(row["references"])})
    except (json.JSONDecodeError, TypeError, KeyError):
        return None


def _text(results: Iterable[SampleResult]) -> str:
    return "".join(json.dumps(result._asdict(), ensure_ascii=False) + "\n" for result in results)
