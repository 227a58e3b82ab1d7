"""A table for the terminal: a rich renderable, printed by the console."""

from rich import box
from rich.console import Group
from rich.table import Table as Grid
from rich.text import Text

from longact_cli.reporting.table import Column, Entry, Section, Table

_MOST_COLUMNS = 9


def to_terminal(table: Table) -> Group:
    """Return the sections with their notes and missing cells.

    Where columns are many the compact ones are left to the files.
    """
    parts: list[Grid | Text] = [_grid(table, section) for section in table.sections]
    parts += [Text(note, style="dim") for note in table.notes]
    if table.missing:
        parts.append(Text("Missing:", style="yellow"))
        parts += [Text(f"  {line}", style="yellow") for line in table.missing]
    return Group(*parts)


def _shown(table: Table) -> list[int]:
    places = range(len(table.columns))
    if len(table.columns) <= _MOST_COLUMNS:
        return list(places)
    return [i for i in places if not table.columns[i].compact]


def _grid(table: Table, section: Section) -> Grid:
    heading = f"{table.title} - {section.title}" if section.title else table.title
    grid = Grid(
        title=Text(heading),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),  # fits 80 columns, where rich would otherwise tear numbers apart
    )
    places = _shown(table)
    titles = [table.columns[i].title for i in places]
    for column in (table.columns[i] for i in places):
        alike = titles.count(column.title) > 1 and column.group
        title = f"{column.group}\n{column.title}" if alike else column.title
        grid.add_column(Text(title), justify="right" if column.is_number else "left")
    for row in section.rows:
        grid.add_row(*(_entry(row[i], table.columns[i]) for i in places))
    return grid


def _entry(entry: Entry, column: Column) -> Text:
    style = "bold" if entry.bold else "underline" if entry.second else ""
    text = Text(entry.number(column) + entry.mark, style=style)
    interval = entry.interval(column)
    return text.append(f" {interval}", style="not bold not underline dim") if interval else text
