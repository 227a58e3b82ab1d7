"""A report: chosen tables and figures of one study, written to a folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from longact_cli import __version__
from longact_cli.errors import ConfigError
from longact_cli.files import write_bytes
from longact_cli.registry import unknown_name
from longact_cli.reporting.frame import Study, load_study
from longact_cli.reporting.render import FORMATS
from longact_cli.reporting.table import Provenance, Table
from longact_cli.reporting.tables import TABLES

FIGURE_FORMATS = ("pdf", "png", "svg")


@dataclass(frozen=True)
class ReportFiles:
    """What was written, and the tables for the console."""

    paths: tuple[Path, ...]
    tables: tuple[Table, ...]


def formats() -> tuple[str, ...]:
    """Return every format a report can have: those of tables, then those of figures."""
    return (*FORMATS.names(), *FIGURE_FORMATS)


def write_report(
    uri: str, study: str, *, tables: Sequence[str], formats: Sequence[str], out: Path, command: str
) -> ReportFiles:
    """Write each table in each table format, and the figures in each figure format.

    Every file holds its provenance and is replaced in one step; the same runs and the same command
    give the same bytes. Figures bring a CSV file with their points.

    Args:
        uri: MLflow tracking URI.
        study: Name of the study.
        tables: Names in `TABLES`.
        formats: Some of `formats()`.
        out: Folder, created where it is missing.
        command: The command line, for the provenance.

    Raises:
        NotFoundError: There is no such study, or nothing of it is finished.
        ConfigError: A table or format is unknown, or none is given.
        TrackingError: MLflow failed.
    """
    _check(tables, formats)
    builders = [TABLES.get(name) for name in tables]
    data = load_study(uri, study)
    provenance = _provenance(data, command)
    built = tuple(build(data, provenance) for build in builders)
    files = [("runs.csv", _runs_file(data)), *_table_files(built, formats)]
    pictures = [name for name in formats if name in FIGURE_FORMATS]
    if pictures:
        from longact_cli.reporting.gallery import figure_files  # imports matplotlib

        files += figure_files(uri, data, pictures, provenance)
    paths = []
    for name, content in files:
        write_bytes(out / name, content)
        paths.append(out / name)
    return ReportFiles(tuple(paths), built)


def _check(tables: Sequence[str], chosen: Sequence[str]) -> None:
    for key, names, known in (
        ("report.table", tables, TABLES.names()),
        ("report.format", chosen, formats()),
    ):
        if not names:
            raise ConfigError(f"{key} is empty; give some of: {', '.join(known)}")
        for name in names:
            if name not in known:
                raise unknown_name(key, name, known)


def _provenance(study: Study, command: str) -> Provenance:
    finished = [cell for cell in study.cells if cell.status == "FINISHED"]
    return Provenance(
        command=command,
        version=__version__,
        study=study.name,
        commits=tuple(sorted({cell.git_commit for cell in finished if cell.git_commit})),
        cells=tuple(cell.digest for cell in finished),
    )


def _runs_file(study: Study) -> bytes:
    """Return which MLflow run holds each cell of the study."""
    rows = sorted((cell.digest, cell.run_id or "", cell.status) for cell in study.cells)
    lines = ["cell,run_id,status", *(",".join(row) for row in rows)]
    return ("\n".join(lines) + "\n").encode("utf-8")


def _table_files(tables: Sequence[Table], formats: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for table in tables:
        for name in formats:
            if name not in FIGURE_FORMATS:
                yield f"{table.name}.{name}", FORMATS.get(name)(table).encode("utf-8")
