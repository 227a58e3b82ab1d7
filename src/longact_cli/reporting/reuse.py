"""The same report again: where nothing has changed since, what is written is left as it is.

A report counts as the same if the store, the request, the code and the packages are the same, and
every file it wrote is still there with the same bytes. Nothing is ever written from the cache.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from longact_cli.files import sha256_file, sha256_json
from longact_cli.reporting.request import ReportFiles, ReportRequest
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.tracking import Progress, is_server
from longact_cli.tracking.cache_file import read_cache, write_cache
from longact_cli.tracking.state import state_read, store_state

_PACKAGES = ("matplotlib", "numpy", "pandas", "scipy")


def report_again(
    uri: str,
    studies: Sequence[str],
    request: ReportRequest,
    *,
    out: Path,
    cache: Path,
    progress: Progress | None = None,
) -> ReportFiles:
    """Write a report as `write_report` does, unless exactly that has been written already.

    Args:
        uri: MLflow tracking URI.
        studies: Names of one or more studies, read as one.
        request: What to write.
        out: Folder, created where it is missing.
        cache: Folder that remembers what was written and what was read for it.
        progress: Told how far a server is read.

    Raises:
        NotFoundError: There is no such study, or nothing of it is finished.
        ConfigError: A table, field or format is unknown, or none is given.
        TrackingError: MLflow failed.
    """
    asked = sha256_json([uri, list(studies), asdict(request), str(out.resolve())])
    place = cache / f"report-{asked[:16]}.json"
    kept = read_cache(place)
    before = None
    if kept is not None or not is_server(uri):  # a server is not asked in vain
        before = store_state(uri, studies, cache, progress)
    known = None if before is None else _written(kept, _state(asked, before), out)
    if known is not None:
        return known
    from longact_cli.reporting.report import write_report  # imports pandas and scipy

    done = write_report(uri, studies, request, out=out, cache=cache, progress=progress)
    after = state_read(uri, studies, cache, before)
    if after is not None:
        files = [(path.name, sha) for path, sha in zip(done.paths, done.checksums, strict=True)]
        tables = [_packed(table) for table in done.tables]
        write_cache(place, {"state": _state(asked, after), "files": files, "tables": tables})
    return done


def forget(cache: Path) -> None:
    """Delete what earlier reports have kept; the next one reads everything anew."""
    for path in cache.glob("*.json"):
        path.unlink(missing_ok=True)


def _state(asked: str, store: str) -> str:
    """Return a digest of all that the bytes of a report depend on."""
    packages = [version(name) for name in _PACKAGES]
    return sha256_json([asked, store, _code(), sys.version, packages])


def _code() -> list[tuple[str, int, int]]:
    """Return size and time of every file of this package."""
    root = Path(__file__).parents[1]
    found = []
    for path in root.rglob("*"):
        if path.suffix != ".pyc" and path.is_file():
            stat = path.stat()
            found.append((str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns))
    return sorted(found)


def _written(known: Any, state: str, out: Path) -> ReportFiles | None:
    """Return what was written for this state, if all of it is still there."""
    if known is None or known["state"] != state:
        return None
    paths = tuple(out / name for name, _ in known["files"])
    checksums = tuple(sha for _, sha in known["files"])
    try:
        if any(sha256_file(p) != sha for p, sha in zip(paths, checksums, strict=True)):
            return None
    except OSError:
        return None
    return ReportFiles(paths, tuple(_unpacked(*table) for table in known["tables"]), checksums)


def _packed(table: Table) -> list[Any]:
    sections = [[section.title, section.rows] for section in table.sections]
    rest = (table.columns, table.notes, table.missing, table.provenance)
    return [table.name, table.title, sections, *rest]


def _unpacked(name: str, title: str, sections: list[Any], *rest: list[Any]) -> Table:
    columns, notes, missing, provenance = rest
    return Table(
        name=name,
        title=title,
        columns=tuple(Column(*column) for column in columns),
        sections=tuple(Section(head, tuple(map(_row, rows))) for head, rows in sections),
        notes=tuple(notes),
        missing=tuple(missing),
        provenance=Provenance._make(_frozen(provenance)),
    )


def _row(entries: list[Any]) -> tuple[Entry, ...]:
    return tuple(Entry._make(_frozen(entry)) for entry in entries)


def _frozen(values: list[Any]) -> Iterator[Any]:
    """Yield the values with tuples in the place of lists, which JSON has instead."""
    return (tuple(value) if isinstance(value, list) else value for value in values)
