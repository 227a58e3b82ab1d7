"""What finished evaluations wrote, as tables need it, and read once: the next report finds it here.

An entry counts as long as the signature of its file is the same. Nothing that is kept is the only
copy of anything.
"""

from collections.abc import Callable, Iterable
from itertools import compress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self

from longact_cli.results import EvalResult, SampleResult
from longact_cli.tracking import Progress
from longact_cli.tracking.cache_file import read_cache, write_cache
from longact_cli.tracking.signatures import Signature

_PLAN, _RESULTS, _ANSWERS = "/plan", "/results", "/answers"


class Asked(NamedTuple):
    """A question without its texts; `difficulty` and `document` are empty where it has none."""

    id: str
    benchmark: str
    task: str
    context_length: int
    difficulty: str
    document: str


class Answers(NamedTuple):
    """The answers of one run, in the order of its file.

    Attributes:
        asked: The questions; runs that were asked the same may share the tuple.
        scores: 0..1; None where the answer failed.
        truncated: Whether the prompt had to be cut.
    """

    asked: tuple[Asked, ...]
    scores: tuple[float | None, ...]
    truncated: tuple[bool, ...]


NO_ANSWERS = Answers((), (), ())


def answers_of(samples: Iterable[SampleResult]) -> Answers:
    """Return what tables need of the answers of one run."""
    rows = [
        (
            Asked(s.id, s.benchmark, s.task, s.context_length, s.difficulty or "", s.document),
            s.score,
            s.truncated,
        )
        for s in samples
    ]
    return Answers(*map(tuple, zip(*rows, strict=True))) if rows else NO_ANSWERS


class RunFiles:
    """The results and answers of runs: from the cache where they are known, else read and kept.

    Several threads may ask. Left without an error it keeps what was asked for and nothing else;
    left by one it keeps all, so that what was read so far is not read again.
    """

    def __init__(self, path: Path | None, progress: Progress | None = None) -> None:
        """Open a cache file; None keeps nothing. `progress` is told how far a server is read."""
        self._path = path
        self.folder = None if path is None else path.parent
        self.progress = progress
        known: dict[str, Any] = (read_cache(path) if path else None) or {}
        questions = [Asked(*row) for row in known.get("questions", ())]
        self._asked = [tuple(questions[i] for i in places) for places in known.get("asked", ())]
        self._known: dict[str, list[Any]] = known.get("files", {})
        self._used: dict[str, list[Any]] = {}
        self._lock = Lock()
        self._number = {asked: i for i, asked in enumerate(self._asked)}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Keep what was read."""
        if kind is not None:
            self._used = self._known | self._used
        if self._path is not None and self._used != self._known:
            self._save(self._path)

    def plan(
        self, run_id: str, signature: Signature | None, read: Callable[[], tuple[str, ...]]
    ) -> tuple[str, ...]:
        """Return the digests of a plan's cells; without a signature they are read and not kept."""
        found = self._find(run_id + _PLAN, signature)
        if found is None:
            digests = read()
            self._keep(run_id + _PLAN, signature, list(digests))
            return digests
        return tuple(found[0])

    def results(
        self,
        run_id: str,
        signature: Signature | None,
        read: Callable[[], tuple[EvalResult, ...]],
    ) -> tuple[EvalResult, ...]:
        """Return the scores of a run; without a signature they are read and not kept."""
        found = self._find(run_id + _RESULTS, signature)
        if found is None:
            results = read()
            self._keep(run_id + _RESULTS, signature, [list(result) for result in results])
            return results
        return tuple(EvalResult(*row) for row in found[0])

    def answers(
        self, run_id: str, signature: Signature | None, read: Callable[[], Answers]
    ) -> Answers:
        """Return the answers of a run; without a signature they are read and not kept."""
        found = self._find(run_id + _ANSWERS, signature)
        if found is None:
            answers = read()
            with self._lock:
                number = self._number.setdefault(answers.asked, len(self._asked))
                if number == len(self._asked):
                    self._asked.append(answers.asked)
            cut = list(compress(range(len(answers.truncated)), answers.truncated))
            self._keep(run_id + _ANSWERS, signature, number, list(answers.scores), cut)
            return answers._replace(asked=self._asked[number])
        number, scores, places = found
        truncated = [False] * len(scores)
        for place in places:
            truncated[place] = True
        return Answers(self._asked[number], tuple(scores), tuple(truncated))

    def _find(self, name: str, signature: Signature | None) -> list[Any] | None:
        found = self._known.get(name)
        if found is None or signature is None or found[0] != signature:
            return None
        self._used[name] = found
        return found[1:]

    def _keep(self, name: str, signature: Signature | None, *values: Any) -> None:
        if signature is not None:
            self._used[name] = [signature, *values]

    def _save(self, path: Path) -> None:
        shared: dict[int, int] = {}
        for name, entry in self._used.items():
            if name.endswith(_ANSWERS):
                shared.setdefault(entry[1], len(shared))
        numbers: dict[Asked, int] = {}
        asked = [[numbers.setdefault(q, len(numbers)) for q in self._asked[old]] for old in shared]
        files = {
            name: [entry[0], shared[entry[1]], *entry[2:]] if name.endswith(_ANSWERS) else entry
            for name, entry in self._used.items()
        }
        write_cache(path, {"questions": list(numbers), "asked": asked, "files": files})
