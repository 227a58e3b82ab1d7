"""A table as a fragment of the HTML report: sortable, every number with what it rests on."""

from collections.abc import Iterable, Iterator
from html import escape

from longact_cli.reporting.table import MISSING, Column, Entry, Section, Table

_WIDE_TEXT = 40


def table_fragment(table: Table) -> str:
    """Return the table as one `section`; it works without scripts."""
    return "\n".join(
        [
            f'<section id="{escape(table.name)}" class="long">',
            f"<h2>{_one_line(table.title)}</h2>",
            '<div class="scroll"><table class="sortable">',
            _head(table),
            *(_body(table, section) for section in table.sections),
            "</table></div>",
            notes_list(table.notes),
            _missing(table.missing),
            "</section>",
        ]
    )


def _one_line(text: str) -> str:
    return escape(" ".join(text.split()))


def _head(table: Table) -> str:
    lines = ["<thead>"]
    if table.has_groups:
        cells = (
            f'<th colspan="{width}"{" class=group" if title else ""}>{_one_line(title)}</th>'
            for title, width in table.groups()
        )
        lines.append(f'<tr class="groups">{"".join(cells)}</tr>')
    titles = (
        f'<th scope="col"{_kind(column)}>{_one_line(column.title)}</th>' for column in table.columns
    )
    return "\n".join([*lines, f"<tr>{''.join(titles)}</tr>", "</thead>"])


def _body(table: Table, section: Section) -> str:
    lines = ["<tbody>"]
    if section.title:
        width = len(table.columns)
        title = _one_line(section.title)
        lines.append(f'<tr class="part"><th colspan="{width}" scope="rowgroup">{title}</th></tr>')
    for row in section.rows:
        cells = (_entry(entry, column) for entry, column in zip(row, table.columns, strict=True))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody>"])


def _entry(entry: Entry, column: Column) -> str:
    shown = _one_line(entry.number(column) + entry.mark)
    if entry.bold:
        shown = f"<strong>{shown}</strong>"
    elif entry.second:
        shown = f'<span class="second">{shown}</span>'
    interval = escape(entry.interval(column))
    tail = f'<span class="interval">{interval}</span>' if interval else ""
    return f"<td{_classes(entry, column)}{_value(entry)}{_tooltip(entry)}>{shown}{tail}</td>"


def _classes(entry: Entry, column: Column) -> str:
    names = [] if column.is_number else ["text"]
    if isinstance(entry.value, str) and len(entry.value) > _WIDE_TEXT:
        names.append("wrap")
    if entry.bold:
        names.append("best")
    if entry.number(column) == MISSING:
        names.append("gone")
    return f' class="{" ".join(names)}"' if names else ""


def _value(entry: Entry) -> str:
    return "" if entry.value is None else f' data-v="{_one_line(str(entry.value))}"'


def _tooltip(entry: Entry) -> str:
    """Say what a number rests on: questions, seeds, cells."""
    if not entry.cells:
        return ""
    parts = [] if entry.n is None else [f"{entry.n} questions, {entry.seeds} run(s) or seed(s)"]
    parts.append(f"cells {', '.join(entry.cells)}")
    return f' title="{escape("; ".join(parts))}"'


def _kind(column: Column) -> str:
    return "" if column.is_number else ' class="text"'


def notes_list(notes: Iterable[str]) -> str:
    """Return notes as a list; empty without any."""
    items = "\n".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes">\n{items}\n</ul>' if items else ""


def _missing(lines: tuple[str, ...]) -> str:
    if not lines:
        return ""
    items = "\n".join(f"<li>{escape(line)}</li>" for line in lines)
    head = f"<summary>Missing results, and how to fill them ({len(lines)} lines)</summary>"
    return f'<details class="missing">{head}\n<ul>\n{items}\n</ul></details>'


def plain_table(titles: Iterable[str], rows: Iterable[Iterable[str]], *, kind: str) -> str:
    """Return texts as a table."""
    head = "".join(f'<th scope="col" class="text">{escape(title)}</th>' for title in titles)
    return "\n".join(_plain_lines(head, rows, kind))


def _plain_lines(head: str, rows: Iterable[Iterable[str]], kind: str) -> Iterator[str]:
    yield f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>'
    for row in rows:
        cells = "".join(
            f'<td class="text{" wrap" if len(text) > _WIDE_TEXT else ""}" '
            f'data-v="{_one_line(text)}">{escape(text)}</td>'
            for text in row
        )
        yield f"<tr>{cells}</tr>"
    yield "</tbody></table></div>"
