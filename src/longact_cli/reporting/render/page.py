"""The HTML report: one file with all tables, figures, single questions and the way to each run."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import NamedTuple

from longact_cli.reporting.drilldown import AskedQuestion, QuestionGroup
from longact_cli.reporting.render.html_ import plain_table, table_fragment
from longact_cli.reporting.table import Provenance, Table

# The page may load nothing and send nothing, whatever a run's name holds.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
_RIGHT, _WRONG, _PARTLY, _FAILED = "●", "○", "◐", "✗"


class Picture(NamedTuple):
    """A figure as SVG."""

    title: str
    svg: bytes


class RunRow(NamedTuple):
    """Where one cell is kept."""

    cell: str
    label: str
    status: str
    run_id: str
    commit: str


@dataclass(frozen=True)
class Page:
    """Everything on the page, in its order."""

    title: str
    lead: str
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]
    questions: tuple[QuestionGroup, ...]
    runs: tuple[RunRow, ...]
    provenance: Provenance


def to_page(page: Page) -> str:
    """Return the whole file; it loads nothing from anywhere."""
    title = escape(" ".join(page.title.split()))
    parts = [
        *(table_fragment(table) for table in page.tables),
        _figures(page.pictures),
        _questions(page.questions),
        _runs(page.runs),
        _provenance(page.provenance),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>\n{_asset('report.css')}</style></head>",
            "<body>",
            f'<header><div><h1>{title}</h1><p class="lead">{escape(page.lead)}</p>',
            _navigation(page),
            "</div></header>",
            "<main>",
            *(part for part in parts if part),
            "</main>",
            f"<script>\n{_asset('report.js')}</script>",
            "</body>\n</html>\n",
        ]
    )


def _asset(name: str) -> str:
    return (files("longact_cli.reporting.render") / name).read_text(encoding="utf-8")


def _navigation(page: Page) -> str:
    links = [(table.name, table.name) for table in page.tables]
    links += [("figures", "figures")] if page.pictures else []
    links += [("questions", "questions")] if page.questions else []
    links += [("runs", "runs")] if page.runs else []
    links += [("provenance", "provenance")]
    items = "".join(f'<a href="#{escape(to)}">{escape(text)}</a>' for to, text in links)
    return f'<nav aria-label="Contents">{items}</nav>'


def _figures(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    shown = "\n".join(
        f'<figure><img alt="{escape(picture.title)}" src="data:image/svg+xml;base64,'
        f'{b64encode(picture.svg).decode("ascii")}"><figcaption>{escape(picture.title)}'
        "</figcaption></figure>"
        for picture in pictures
    )
    head = '<section id="figures" class="long"><h2>Figures</h2>'
    return f'{head}\n<div class="gallery">\n{shown}\n</div></section>'


def _questions(groups: Sequence[QuestionGroup]) -> str:
    if not groups:
        return ""
    lines = [
        '<section id="questions" class="long"><h2>Single questions</h2>',
        '<div class="tools" id="tools" hidden>',
        '<label>Find <input type="search" id="search"></label>',
        '<label><input type="checkbox" id="split"> only where arms disagree</label></div>',
    ]
    for group in groups:
        lines.append(f"<h3>{escape(group.title)}</h3>")
        lines.append(f'<p class="lead">{escape(group.note)}</p>')
        lines += [_question(question) for question in group.questions]
    return "\n".join([*lines, "</section>"])


def _question(asked: AskedQuestion) -> str:
    marks = [_mark(answer.score) for answer in asked.answers]
    split = " data-split" if len(set(marks)) > 1 else ""
    rows = (
        (
            answer.arm,
            "failed" if answer.score is None else f"{100 * answer.score:.1f} %",
            answer.text,
        )
        for answer in asked.answers
    )
    titles = ("Arm", "Score", "Answer (first seed, cut)")
    return (
        f'<details class="question"{split}><summary><code>{escape(asked.name)}</code>'
        f'<span class="dots" title="one sign per arm: right, partly, wrong, failed">'
        f"{' '.join(marks)}</span></summary>"
        f"<p>Expected: <code>{escape(asked.expected)}</code></p>"
        f"{plain_table(titles, rows, kind='answers')}</details>"
    )


def _mark(score: float | None) -> str:
    if score is None:
        return _FAILED
    return _RIGHT if score >= 1.0 else _WRONG if score <= 0.0 else _PARTLY


def _runs(runs: Sequence[RunRow]) -> str:
    if not runs:
        return ""
    titles = ("Cell", "Label", "Status", "MLflow run", "Commit")
    rows = (row._replace(cell=row.cell[:12], commit=row.commit[:12]) for row in runs)
    grid = plain_table(titles, rows, kind="sortable trace")
    return (
        f'<section id="runs" class="long"><h2>Runs</h2><details><summary>{len(runs)} cells: '
        "the first column is the digest of the cell's configuration, as shown when the pointer "
        f"rests on a number</summary>{grid}</details></section>"
    )


def _provenance(provenance: Provenance) -> str:
    text = "\n".join(escape(line) for line in provenance.lines())
    return f'<section id="provenance"><h2>Provenance</h2><pre>{text}</pre></section>'
