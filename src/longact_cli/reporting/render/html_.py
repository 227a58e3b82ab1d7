"""A table as one self-contained HTML page."""

from collections.abc import Iterable
from html import escape

from longact_cli.reporting.table import Column, Entry, Section, Table

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; color: #1a1a1a; }
table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid; }
caption { text-align: left; font-size: 1.2rem; font-weight: 600; padding-bottom: .5rem; }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; }
th.text, td.text { text-align: left; }
thead tr:last-child th { border-bottom: 1px solid; }
th.group { text-align: center; border-bottom: 1px solid #888; }
tr.section th { text-align: left; font-style: italic; border-top: 1px solid; }
.interval, footer { color: #555; font-size: .85em; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
""".strip()


def to_html(table: Table) -> str:
    """Return the page; it loads nothing and runs nothing."""
    title = escape(table.title)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8"><title>{title}</title>',
            f"<style>\n{STYLE}\n</style></head>",
            "<body>",
            grid(table),
            "<footer>",
            _list("Notes", table.notes),
            _list("Missing", table.missing),
            "<h2>Provenance</h2>",
            "<pre>" + "\n".join(escape(line) for line in table.provenance.lines()) + "</pre>",
            "</footer>",
            "</body>\n</html>\n",
        ]
    )


def grid(table: Table) -> str:
    """Return the table alone, to be put into a page."""
    return "\n".join(
        [
            f"<table>\n<caption>{escape(table.title)}</caption>",
            _head(table),
            "<tbody>",
            *(line for section in table.sections for line in _section(table, section)),
            "</tbody>\n</table>",
        ]
    )


def _head(table: Table) -> str:
    lines = ["<thead>"]
    if table.has_groups:
        cells = (
            f'<th colspan="{width}"{" class=group" if title else ""}>{escape(title)}</th>'
            for title, width in table.groups()
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    titles = (f"<th{_kind(column)}>{escape(column.title)}</th>" for column in table.columns)
    return "\n".join([*lines, f"<tr>{''.join(titles)}</tr>", "</thead>"])


def _section(table: Table, section: Section) -> Iterable[str]:
    if section.title:
        width = len(table.columns)
        yield f'<tr class="section"><th colspan="{width}">{escape(section.title)}</th></tr>'
    for row in section.rows:
        cells = (_entry(entry, column) for entry, column in zip(row, table.columns, strict=True))
        yield f"<tr>{''.join(cells)}</tr>"


def _entry(entry: Entry, column: Column) -> str:
    number = escape(entry.number(column) + entry.mark)
    number = f"<strong>{number}</strong>" if entry.bold else number
    interval = escape(entry.interval(column))
    tail = f' <span class="interval">{interval}</span>' if interval else ""
    return f"<td{_kind(column)}>{number}{tail}</td>"


def _kind(column: Column) -> str:
    return "" if column.is_number else ' class="text"'


def _list(title: str, lines: Iterable[str]) -> str:
    items = "\n".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h2>{title}</h2>\n<ul>\n{items}\n</ul>" if items else ""
