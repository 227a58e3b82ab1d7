"""The runs of a study on a server: those that may have changed since the last time, and no others.

MLflow cannot be asked what has changed: it filters by when a run ended and sends every run with all
it holds. So runs that have ended are kept here, and each time the server is asked

- for every run that is not among them: new ones, whenever they ended, restored ones, those that
  had not ended, those without `longact.written` (an older version wrote them);
- for those whose `longact.written`, which every write of ours sets by the clock of the server, is
  later than ten minutes before the last time: what was under way then is seen now;
- whether it holds as many runs as are then known. If not, for deleted ones, and then for all.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count, product
from pathlib import Path
from typing import Any, NamedTuple

from mlflow.exceptions import RestException

from longact_cli.files import sha256_json
from longact_cli.tracking import WRITTEN_TAG, Progress
from longact_cli.tracking.cache_file import read_cache, write_cache
from longact_cli.tracking.client import translated
from longact_cli.tracking.clock import server_time
from longact_cli.tracking.database import RunRecord
from longact_cli.tracking.server import (
    Question,
    counts,
    find_experiment,
    search,
    search_all,
)

_MARGIN = 600_000
_AT_ONCE = 4
_DIGITS = "0123456789abcdef"
_LONGEST_LIST = 1000
_MOST_CHANGED = 2000
_ENDED = ("FINISHED", "FAILED", "KILLED")


class _Place(NamedTuple):
    """Where to ask: the server, the number of the study, and whom to tell how far it is."""

    uri: str
    experiment: str
    progress: Progress | None


class _Settled(NamedTuple):
    """Runs that had ended when they were listed, and since when they may have been written to."""

    runs: Mapping[str, RunRecord]
    since: int


def listed_runs(
    uri: str, study: str, folder: Path | None, progress: Progress | None = None
) -> tuple[RunRecord, ...]:
    """Return every run of a study on a server, by id; none where there is no such study.

    Args:
        uri: The server.
        study: The study's name.
        folder: Where the listing is kept for the next time; None keeps nothing.
        progress: Told how much of the listing is done.

    Raises:
        TrackingError: MLflow failed.
    """
    found = find_experiment(uri, study)
    if found is None:
        return ()
    file = None if folder is None else _kept_file(folder, uri, study)
    kept = None if file is None else read_cache(file)
    now = server_time(uri)
    with translated(uri):
        settled = _settled(kept, found.number)
        runs = _brought_up(_Place(uri, found.number, progress), settled)
    late = any(_written(run) >= settled.since for run in runs.values())
    if file is not None and (late or runs != settled.runs):
        runs_now = [runs[run_id] for run_id in sorted(runs)]
        write_cache(file, {"experiment": found.number, "listed": now, **_packed(runs_now)})
    return tuple(runs[run_id] for run_id in sorted(runs))


def listing_state(uri: str, study: str, folder: Path) -> str | None:
    """Return a digest of the last listing of a study; None where none is kept.

    Nor where a finished cell does not say which of its ends was copied, or a plan not when: their
    files may then change without a trace.
    """
    known = read_cache(_kept_file(folder, uri, study))
    if known is None:
        return None
    for run in _unpacked(known):
        mark = "longact.replicated" if run.tags.get("longact.kind") == "cell" else WRITTEN_TAG
        if run.status == "FINISHED" and mark not in run.tags:
            return None
    return sha256_json([known["experiment"], known["pairs"], known["runs"]])


def _brought_up(place: _Place, settled: _Settled) -> Mapping[str, RunRecord]:
    """Return all runs: the settled ones as far as they have not changed, and those asked for.

    What comes or goes meanwhile is noticed by the count, and then asked for again.
    """
    try:
        with ThreadPoolExecutor(1) as aside:
            changed = aside.submit(_changed, place, settled)
            found = _asked(place, settled.runs) | changed.result()
        if counts(place.uri, place.experiment, len(found)):
            return found
        if settled.runs:
            found = _asked(place, _without_deleted(place, found))
            if counts(place.uri, place.experiment, len(found)):
                return found
            found = _asked(place, {})
        found = _asked(place, found)
        if counts(place.uri, place.experiment, len(found)):
            return found
    except RestException:
        pass  # not a server that understands these questions
    return {run.run_id: run for run in search_all(place.uri, Question(place.experiment))}


def _asked(place: _Place, known: Mapping[str, RunRecord]) -> dict[str, RunRecord]:
    """Return the known runs and all that are not among them."""
    parts = list(_parts(known))
    found = dict(known)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        questions = [Question(place.experiment, _unknown(*part)) for part in parts]
        answers = pool.map(lambda question: search_all(place.uri, question), questions)
        for done, answer in enumerate(answers, 1):
            found |= {run.run_id: run for run in answer}
            if place.progress is not None:
                place.progress("runs", done, len(parts))
    return found


def _changed(place: _Place, settled: _Settled) -> dict[str, RunRecord]:
    """Return the runs that were written since, the newest first until one is older."""
    found: dict[str, RunRecord] = {}
    if not settled.runs:
        return found
    newest = Question(place.experiment, order=f"tags.`{WRITTEN_TAG}` DESC")
    page = search(place.uri, newest._replace(most=1))
    while page.runs:
        fresh = [run for run in page.runs if _written(run) >= settled.since]
        found |= {run.run_id: run for run in fresh}
        if len(fresh) < len(page.runs) or not page.token:
            break
        if len(found) > _MOST_CHANGED:
            return _asked(place, {})
        page = search(place.uri, newest, page.token)
    return found


def _without_deleted(place: _Place, known: Mapping[str, RunRecord]) -> dict[str, RunRecord]:
    """Return the known runs that were not moved to the bin."""
    left = dict(known)
    for prefix, ids in _parts(known):
        if ids:
            query = f"attributes.run_id LIKE '{prefix}%' AND attributes.run_id IN ({_list(ids)})"
            for run in search_all(place.uri, Question(place.experiment, query, deleted=True)):
                left.pop(run.run_id, None)
    return left


def _parts(known: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each beginning of an id with the known ids that have it, few enough for one query."""
    ids = sorted(known)
    digits = next(n for n in count(1) if len(ids) <= _LONGEST_LIST * len(_DIGITS) ** n)
    for letters in product(_DIGITS, repeat=digits):
        prefix = "".join(letters)
        yield prefix, [run_id for run_id in ids if run_id.startswith(prefix)]


def _unknown(prefix: str, ids: list[str]) -> str:
    query = f"attributes.run_id LIKE '{prefix}%'"
    return f"{query} AND attributes.run_id NOT IN ({_list(ids)})" if ids else query


def _list(ids: Iterable[str]) -> str:
    return ",".join(f"'{run_id}'" for run_id in ids)


def _written(run: RunRecord) -> int:
    """Return when the run was last written; -1 where it does not say."""
    told = run.tags.get(WRITTEN_TAG, "")
    return int(told) if told.isdecimal() else -1


def _settled(kept: Any, experiment: str) -> _Settled:
    if kept is None or kept["experiment"] != experiment:
        return _Settled({}, 0)
    ended = (run for run in _unpacked(kept) if run.status in _ENDED and _written(run) >= 0)
    return _Settled({run.run_id: run for run in ended}, kept["listed"] - _MARGIN)


def _kept_file(folder: Path, uri: str, study: str) -> Path:
    return folder / f"runs-{sha256_json([uri, study])[:16]}.json"


def _packed(runs: Iterable[RunRecord]) -> dict[str, Any]:
    """Return runs as JSON; tags and parameters are mostly the same, so each is written once."""
    numbers: dict[tuple[str, str], int] = {}

    def numbered(values: Mapping[str, str]) -> list[int]:
        return [numbers.setdefault(pair, len(numbers)) for pair in sorted(values.items())]

    rows = [
        [*run[:4], numbered(run.tags), numbered(run.params), sorted(run.metrics.items())]
        for run in runs
    ]
    return {"pairs": list(numbers), "runs": rows}


def _unpacked(kept: Any) -> Iterator[RunRecord]:
    pairs = [tuple(pair) for pair in kept["pairs"]]
    for run_id, status, started, ended, tags, params, metrics in kept["runs"]:
        yield RunRecord(
            run_id,
            status,
            started,
            ended,
            {key: value for key, value in map(pairs.__getitem__, tags)},
            {key: value for key, value in map(pairs.__getitem__, params)},
            {key: value for key, value in metrics},
        )
