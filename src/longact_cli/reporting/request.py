"""What a report is asked for and what comes of it; imports nothing that takes time."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longact_cli.reporting.table import Table

if TYPE_CHECKING:
    from longact_cli.reporting.pivot import Pivot

CLAIMS = "claims"


@dataclass(frozen=True)
class ReportRequest:
    """What to write.

    Attributes:
        tables: Names in `TABLES`, or `all`.
        formats: Some of `report.formats()`.
        command: The command line, for the provenance.
        pivot: A table of the user's own making.
        siunitx: Whether LaTeX columns align at the decimal point.
    """

    tables: tuple[str, ...]
    formats: tuple[str, ...]
    command: str
    pivot: "Pivot | None" = None
    siunitx: bool = False


@dataclass(frozen=True)
class ReportFiles:
    """What was written, with the SHA-256 of each file, and the tables for the console."""

    paths: tuple[Path, ...]
    tables: tuple[Table, ...]
    checksums: tuple[str, ...]
