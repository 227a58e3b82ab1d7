"""A table as LaTeX with booktabs, and with siunitx where columns shall align at the point."""

from collections.abc import Callable

from longact_cli.reporting.table import Column, Entry, Section, Table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "§": r"\textsection{}",
    "…": r"\ldots{}",
}
_LIGATURES = (("--", "-{}-"), ("--", "-{}-"), ("``", "`{}`"), ("''", "'{}'"))
_LAST_LATIN = 0x17F
_LONGEST_TEXT = 28
_BROKEN = r"p{2.1cm}"
_MOST_BELOW = 14


_CellWriter = Callable[[Entry, Column], str]


def to_latex(table: Table) -> str:
    r"""Return a `table` environment, to be included with `\input` under `\usepackage{booktabs}`."""
    places = range(len(table.columns))
    columns = "".join("r" if table.columns[i].is_number else _text(table, i) for i in places)
    return _environment(table, columns, _entry, packages=r"\usepackage{booktabs}")


def to_siunitx(table: Table) -> str:
    r"""Return the same with `S` columns, which align numbers; needs `\usepackage{siunitx}` too."""
    columns = "".join(_s_column(table, i) for i in range(len(table.columns)))
    packages = r"\usepackage{booktabs}, \usepackage{siunitx}"
    return _environment(table, columns, _s_entry, packages=packages)


def _text(table: Table, place: int) -> str:
    """Return the type of a text column: one that would take the page's width breaks its lines."""
    texts = (row[place].value for section in table.sections for row in section.rows)
    longest = max((len(str(text)) for text in texts), default=0)
    return "l" if longest <= _LONGEST_TEXT else _BROKEN


def _environment(table: Table, columns: str, write: _CellWriter, *, packages: str) -> str:
    braced, dense = write is _s_entry, _BROKEN in columns
    below = _below(table)
    apart = len(table.notes) + len(table.missing) > _MOST_BELOW  # a float cannot break its page
    lines = [
        *(f"% {_plain(line)}" for line in table.provenance.lines()),
        rf"% \usepackage[T1]{{fontenc}}, \usepackage{{textcomp}}, {packages}",
        r"\begin{table}[t]",
        r"\centering",
        r"\scriptsize" if dense else r"\small",
        *([r"\setlength{\tabcolsep}{3pt}"] if dense else []),
        rf"\caption{{{escape(table.title)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *_header(table, braced=braced),
        *(line for section in table.sections for line in _section(table, section, write)),
        r"\bottomrule",
        r"\end{tabular}",
        *([] if apart else below),
        r"\end{table}",
        *(below if apart else []),
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return LaTeX that prints `text` on one line.

    Letters outside extended Latin, which the usual fonts lack, are named by their code point.
    Brackets and stars are in braces, since a line break before them would read them as its own.
    """
    escaped = "".join(_escape_one(character) for character in " ".join(text.split()))
    for pair, apart in _LIGATURES:
        escaped = escaped.replace(pair, apart)
    return escaped


def _escape_one(character: str) -> str:
    if ord(character) > _LAST_LATIN or not character.isprintable():
        return f"{{[}}U+{ord(character):04X}{{]}}"
    return _ESCAPES.get(character, character)


def _plain(line: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in line)


def _header(table: Table, *, braced: bool) -> list[str]:
    lines = []
    if table.has_groups:
        groups, rules, start = [], [], 1
        for title, width in table.groups():
            groups.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(title)}}}")
            if title:
                rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
            start += width
        lines += [" & ".join(groups) + r" \\", " ".join(rules)]
    titles = (escape(column.title) for column in table.columns)
    shown = (f"{{{title}}}" for title in titles) if braced else titles
    return [*lines, " & ".join(shown) + r" \\"]


def _section(table: Table, section: Section, write: _CellWriter) -> list[str]:
    lines = [r"\midrule"]
    if section.title:
        width = len(table.columns)
        lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape(section.title)}}}}} \\")
    for row in section.rows:
        cells = (write(entry, column) for entry, column in zip(row, table.columns, strict=True))
        lines.append(" & ".join(cells) + r" \\")
    return lines


def _entry(entry: Entry, column: Column) -> str:
    number = _minus(entry.number(column) + entry.mark, column)
    if entry.bold:
        number = rf"\textbf{{{number}}}"
    elif entry.second:
        number = rf"\underline{{{number}}}"
    interval = _interval(entry, column)
    return rf"{number} {interval}" if interval else number


def _interval(entry: Entry, column: Column) -> str:
    text = entry.interval(column).replace("-", "$-$")
    return rf"{{\footnotesize {text}}}" if text else ""


def _s_column(table: Table, place: int) -> str:
    """Return an `S` column wide enough for its numbers; `l` for texts."""
    column = table.columns[place]
    if not column.is_number:
        return _text(table, place)
    entries = [row[place] for section in table.sections for row in section.rows]
    shown = [entry.number(column) for entry in entries if _is_number(entry)]
    whole = max((len(text.lstrip("+-").partition(".")[0]) for text in shown), default=1)
    digits = max((len(text.partition(".")[2]) for text in shown), default=0)
    sign = "+" if any(text[0] in "+-" for text in shown) else ""
    return rf"S[table-format={sign}{whole}.{digits},detect-weight,mode=text]"


def _is_number(entry: Entry) -> bool:
    return isinstance(entry.value, (int, float))


def _s_entry(entry: Entry, column: Column) -> str:
    """Return a cell of an `S` column: what is no number stands in braces."""
    if not column.is_number:
        return _entry(entry, column)
    if not _is_number(entry) or entry.second:
        return f"{{{_entry(entry, column)}}}"
    weight = r"\bfseries " if entry.bold else ""
    behind = escape(entry.mark) + (rf"\,{text}" if (text := _interval(entry, column)) else "")
    tail = f"{{{behind}}}" if behind else ""
    return f"{weight}{entry.number(column)}{tail}"


def _minus(text: str, column: Column) -> str:
    """Escape a text; in a column of differences a hyphen before a digit is a minus sign."""
    if column.kind == "points" and any(character.isdigit() for character in text):
        return text.replace("-", "$-$")
    return "--" if text == "--" else escape(text)


def _below(table: Table) -> list[str]:
    missing = [f"Missing: {line}" for line in table.missing]
    lines = [escape(line) for line in (*table.notes, *missing)]
    if not lines:
        return []
    text = "\n\n".join(lines)
    if len(lines) > _MOST_BELOW:
        return [r"{\footnotesize", text, r"\par}"]
    return [
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
        text,
        r"\end{minipage}",
    ]
