"""A report: chosen tables and figures of a study, written to a folder."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from pathlib import Path

from longact_cli import __version__
from longact_cli.errors import ConfigError
from longact_cli.files import write_bytes
from longact_cli.registry import unknown_name
from longact_cli.reporting.drilldown import pick_questions
from longact_cli.reporting.frame import Study, load_study
from longact_cli.reporting.pivot import pivot_table
from longact_cli.reporting.render import FORMATS
from longact_cli.reporting.render.latex import to_siunitx
from longact_cli.reporting.render.page import Page, Picture, RunRow, to_page
from longact_cli.reporting.request import CLAIMS, ReportFiles, ReportRequest
from longact_cli.reporting.table import Provenance, Table
from longact_cli.reporting.tables import TABLES, all_tables
from longact_cli.tracking import Progress

FIGURE_FORMATS = ("pdf", "png", "svg")
PAGE = "html"
ALL = "all"


def formats() -> tuple[str, ...]:
    """Return every format a report can have: those of tables, the page, those of figures."""
    return (*FORMATS.names(), PAGE, *FIGURE_FORMATS)


def write_report(
    uri: str,
    studies: Sequence[str],
    request: ReportRequest,
    *,
    out: Path,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> ReportFiles:
    """Write each table in each table format, the figures in each figure format, and one page.

    Every file holds its provenance and is replaced in one step; the same runs and the same command
    give the same bytes. Figures bring a CSV file with their points.

    Args:
        uri: MLflow tracking URI.
        studies: Names of one or more studies, read as one.
        request: What to write.
        out: Folder, created where it is missing.
        cache: Folder that keeps what is read from the store for the next report.
        progress: Told how far a server is read.

    Raises:
        NotFoundError: There is no such study, or nothing of it is finished.
        ConfigError: A table, field or format is unknown, or none is given.
        TrackingError: MLflow failed.
    """
    request = _expanded(request)
    _check(request)
    data = load_study(uri, *studies, cache=cache, progress=progress)
    provenance = _provenance(data, request.command)
    built = tuple(_tables(data, provenance, request))
    files = [("runs.csv", _runs_file(data)), *_table_files(built, request)]
    pictures = [name for name in request.formats if name in FIGURE_FORMATS]
    if pictures:
        from longact_cli.reporting.gallery import figure_files  # imports matplotlib

        files += figure_files(uri, data, pictures, provenance)
    if PAGE in request.formats:
        files.append(("report.html", _page(uri, data, built, provenance)))
    for name, content in files:
        write_bytes(out / name, content)
    return ReportFiles(
        paths=tuple(out / name for name, _ in files),
        tables=built,
        checksums=tuple(sha256(content).hexdigest() for _, content in files),
    )


def _expanded(request: ReportRequest) -> ReportRequest:
    """Return the request with the names of all tables in the place of `all`, each table once."""
    names = (all_tables() if name == ALL else (name,) for name in request.tables)
    return replace(request, tables=tuple(dict.fromkeys(chain.from_iterable(names))))


def _check(request: ReportRequest) -> None:
    known_tables = TABLES.names()
    for name in request.tables:
        TABLES.get(name)
    if not request.tables and request.pivot is None:
        raise ConfigError(f"report.table is empty; give some of: {', '.join(known_tables)}")
    if not request.formats:
        raise ConfigError(f"report.format is empty; give some of: {', '.join(formats())}")
    for name in request.formats:
        if name not in formats():
            raise unknown_name("report.format", name, formats())


def _tables(study: Study, provenance: Provenance, request: ReportRequest) -> Iterator[Table]:
    for name in request.tables:
        yield TABLES.get(name)(study, provenance)
    if request.pivot is not None:
        yield pivot_table(study, provenance, request.pivot)


def _provenance(study: Study, command: str) -> Provenance:
    finished = [cell for cell in study.cells if cell.status == "FINISHED"]
    return Provenance(
        command=command,
        version=__version__,
        study=study.name,
        commits=tuple(sorted({cell.git_commit for cell in finished if cell.git_commit})),
        cells=tuple(cell.digest for cell in finished),
    )


def _runs(study: Study) -> tuple[RunRow, ...]:
    rows = (
        RunRow(cell.digest, cell.label, cell.status, cell.run_id or "", cell.git_commit or "")
        for cell in study.cells
    )
    return tuple(sorted(rows))


def _runs_file(study: Study) -> bytes:
    """Return which MLflow run holds each cell of the study, and the code that made it.

    A cell's name is the digest of its configuration.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(RunRow._fields)
    writer.writerows(row._replace(label=" ".join(row.label.split())) for row in _runs(study))
    return stream.getvalue().encode("utf-8")


def _table_files(tables: Sequence[Table], request: ReportRequest) -> Iterator[tuple[str, bytes]]:
    for table in tables:
        for name in request.formats:
            if name in FORMATS.names():
                aligned = name == "tex" and request.siunitx
                render = to_siunitx if aligned else FORMATS.get(name)
                yield f"{table.name}.{name}", render(table).encode("utf-8")


def _page(uri: str, study: Study, tables: tuple[Table, ...], provenance: Provenance) -> bytes:
    from longact_cli.reporting.gallery import figures  # imports matplotlib

    if CLAIMS in TABLES.names() and CLAIMS not in {table.name for table in tables}:
        tables = (TABLES.get(CLAIMS)(study, provenance), *tables)
    pictures = tuple(
        Picture(figure.title, figure.draw(("svg",), provenance)[0][1])
        for figure in figures(uri, study, provenance)
    )
    done = len(study.scored)
    planned = sum(cell.stage == "eval" for cell in study.cells)
    page = Page(
        title=f"longact report: {study.name}",
        lead=f"{done} of {planned} evaluations finished, {len(study.samples)} answers.",
        tables=tables,
        pictures=pictures,
        questions=pick_questions(uri, study),
        runs=_runs(study),
        provenance=provenance,
    )
    return to_page(page).encode("utf-8")
