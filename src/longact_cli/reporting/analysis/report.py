"""Everything an analysis puts on disk, in a folder that is whole or absent."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from longact_cli.analysis import rows
from longact_cli.analysis.analyze import Analysis
from longact_cli.errors import ConfigError
from longact_cli.files import read_json, write_bytes, write_json
from longact_cli.registry import unknown_name
from longact_cli.reporting.analysis.csv_rows import to_csv
from longact_cli.reporting.analysis.tables import analysis_tables
from longact_cli.reporting.render import FORMATS
from longact_cli.reporting.render.page import Page, Picture, to_page
from longact_cli.reporting.table import Provenance, Table

FORMAT = "longact-analysis-1"
MANIFEST, PAGE = "manifest.json", "index.html"
FIGURE_FORMATS = ("pdf", "png", "svg")
KNOWN_FORMATS = ("csv", "html", "json", "md", "tex", *FIGURE_FORMATS)
"""csv: the tidy files; html: one page; json, md, tex: the tables; the others: figures."""


@dataclass(frozen=True)
class Written:
    """A finished analysis on disk.

    Attributes:
        folder: Where it lies.
        names: Its files, the manifest last.
        tables: For the console.
    """

    folder: Path
    names: tuple[str, ...]
    tables: tuple[Table, ...]


def check_formats(chosen: Sequence[str]) -> None:
    """Refuse formats there are none of.

    Raises:
        ConfigError: One is unknown, or none is given.
    """
    if not chosen:
        raise ConfigError(f"--format is empty; give some of: {', '.join(KNOWN_FORMATS)}")
    for name in chosen:
        if name not in KNOWN_FORMATS:
            raise unknown_name("--format", name, KNOWN_FORMATS)


def check_folder(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier analysis.

    Raises:
        ConfigError: It is a file, below a file, or has other things in it.
    """
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise ConfigError(f"--out is {out}; {path} is a file: give a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    manifest = read_json(out / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ConfigError(
            f"--out is {out}; it holds files that are no earlier analysis and would be replaced: "
            "give a new or an empty folder"
        )


def write_analysis(
    found: Analysis,
    *,
    formats: Sequence[str],
    out: Path,
    provenance: Provenance,
    manifest: Mapping[str, object],
) -> Written:
    """Write the whole analysis beside `out`, then put it in its place.

    Everything but the manifest is a function of the analysis and the provenance, byte for byte.

    Args:
        found: What was found.
        formats: Some of `KNOWN_FORMATS`.
        out: Folder; an earlier analysis in it is replaced.
        provenance: In every file.
        manifest: Further facts for the manifest, times too.

    Raises:
        ConfigError: `out` holds other things.
    """
    check_formats(formats)
    check_folder(out)
    tables = analysis_tables(found, provenance)
    files = dict(_files(found, tables, formats, provenance))
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for name, content in files.items():
            write_bytes(aside / name, content)
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        write_json(aside / MANIFEST, {**manifest, "format": FORMAT, "files": sums})
        _swap(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Written(out, (*files, MANIFEST), tables)


def _swap(aside: Path, out: Path) -> None:
    """Put a finished folder where an earlier one may lie."""
    aside.chmod(0o755)
    if not out.exists():
        aside.replace(out)
        return
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.old.") as trash:
        out.replace(Path(trash) / "old")
        aside.replace(out)


def _files(
    found: Analysis, tables: Sequence[Table], formats: Sequence[str], provenance: Provenance
) -> Iterator[tuple[str, bytes]]:
    if "csv" in formats:
        yield from _tidy_files(found)
    for table in tables:
        for name in formats:
            if name in ("json", "md", "tex"):
                yield f"{table.name}.{name}", FORMATS.get(name)(table).encode("utf-8")
    pictures = [name for name in formats if name in FIGURE_FORMATS]
    if not pictures and "html" not in formats:
        return
    from longact_cli.reporting.analysis.gallery import draw_files, figures  # imports matplotlib

    shown = figures(found)
    embedded = ["svg"] if "html" in formats and "svg" not in pictures else []
    drawn = dict(draw_files(shown, [*pictures, *embedded], provenance))
    if pictures:
        yield from ((n, data) for n, data in drawn.items() if not n.endswith(tuple(embedded)))
    if "html" in formats:
        pictures_of_page = (
            Picture(figure.caption, drawn[f"{figure.name}.svg"]) for figure in shown
        )
        yield PAGE, _page(found, tables, tuple(pictures_of_page), provenance).encode("utf-8")


def _page(
    found: Analysis,
    tables: Sequence[Table],
    pictures: tuple[Picture, ...],
    provenance: Provenance,
) -> str:
    subjects = ", ".join(subject.label for subject in found.settings.subjects)
    return to_page(
        Page(
            title="Query and key activations",
            lead=subjects,
            tables=tuple(tables),
            pictures=pictures,
            questions=(),
            runs=(),
            provenance=provenance,
        )
    )


def _tidy_files(found: Analysis) -> Iterator[tuple[str, bytes]]:
    """Yield the tidy files; what was not asked for gives none."""
    yield "measures.csv", to_csv(found.measures, rows.MeasureRow._fields)
    yield "ratios.csv", to_csv(found.ratios, rows.RatioRow._fields)
    yield "channels.csv", to_csv(found.channels, rows.ChannelRow._fields)
    yield "histograms.csv", to_csv(found.bins, rows.BinRow._fields)
    yield "overlaps.csv", to_csv(found.overlaps, rows.OverlapRow._fields)
    yield "prompts.csv", to_csv(found.prompts, rows.PromptRow._fields)
    if found.changed:
        yield "changed_rows.csv", to_csv(found.changed, rows.ChangedRow._fields)
