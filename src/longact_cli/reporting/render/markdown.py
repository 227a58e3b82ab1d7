"""A table as GitHub Markdown."""

import re
from collections.abc import Iterable

from longact_cli.reporting.table import Column, Entry, Section, Table


def to_markdown(table: Table) -> str:
    """Return the table with notes, missing cells and provenance; a column names its group."""
    parts = [f"## {_escape(table.title)}"]
    for section in table.sections:
        if section.title:
            parts.append(f"**{_escape(section.title)}**")
        parts.append(_grid(table, section))
    if table.notes:
        parts.append("\n".join(f"- {_escape(note)}" for note in table.notes))
    if table.missing:
        parts.append("Missing:")
        parts.append("\n".join(f"- {_escape(line)}" for line in table.missing))
    parts.append("```text\n" + "\n".join(table.provenance.lines()) + "\n```")
    return "\n\n".join(parts) + "\n"


def _grid(table: Table, section: Section) -> str:
    lines = [
        _line(_heading(column) for column in table.columns),
        _line("---:" if column.is_number else ":---" for column in table.columns),
    ]
    lines += [
        _line(_entry(entry, column) for entry, column in zip(row, table.columns, strict=True))
        for row in section.rows
    ]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _heading(column: Column) -> str:
    return _escape(f"{column.group} {column.title}" if column.group else column.title)


def _entry(entry: Entry, column: Column) -> str:
    number = _escape(entry.number(column) + entry.mark)
    if entry.bold:
        number = f"**{number}**"
    elif entry.second:
        number = f"_{number}_"
    interval = entry.interval(column)
    return f"{number} {interval}" if interval else number


def _escape(text: str) -> str:
    """Keep every character of Markdown's and HTML's syntax literal, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", " ".join(text.split()))
