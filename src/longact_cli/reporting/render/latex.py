"""A table as LaTeX with booktabs; needs no other package."""

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
}
_LIGATURES = (("--", "-{}-"), ("--", "-{}-"), ("``", "`{}`"), ("''", "'{}'"))
_LAST_LATIN = 0x17F


def to_latex(table: Table) -> str:
    r"""Return a `table` environment, to be included with `\input` under `\usepackage{booktabs}`."""
    lines = [
        *(f"% {_plain(line)}" for line in table.provenance.lines()),
        r"% \usepackage[T1]{fontenc}, \usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering",
        r"\small",
        rf"\caption{{{escape(table.title)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if c.is_number else 'l' for c in table.columns)}}}",
        r"\toprule",
        *_header(table),
        *(line for section in table.sections for line in _section(table, section)),
        r"\bottomrule",
        r"\end{tabular}",
        *_below(table),
        r"\end{table}",
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


def _header(table: Table) -> list[str]:
    lines = []
    if table.has_groups:
        groups, rules, start = [], [], 1
        for title, width in table.groups():
            groups.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(title)}}}")
            if title:
                rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
            start += width
        lines += [" & ".join(groups) + r" \\", " ".join(rules)]
    return [*lines, " & ".join(escape(column.title) for column in table.columns) + r" \\"]


def _section(table: Table, section: Section) -> list[str]:
    lines = [r"\midrule"]
    if section.title:
        width = len(table.columns)
        lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape(section.title)}}}}} \\")
    for row in section.rows:
        cells = (_entry(entry, column) for entry, column in zip(row, table.columns, strict=True))
        lines.append(" & ".join(cells) + r" \\")
    return lines


def _entry(entry: Entry, column: Column) -> str:
    number = _minus(entry.number(column) + entry.mark, column)
    number = rf"\textbf{{{number}}}" if entry.bold else number
    interval = entry.interval(column).replace("-", "$-$").replace("%", r"\%")
    return rf"{number} {{\footnotesize {interval}}}" if interval else number


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
    return [
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
        text,
        r"\end{minipage}",
    ]
