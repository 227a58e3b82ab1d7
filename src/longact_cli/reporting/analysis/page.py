"""An analysis as one HTML page that loads nothing and runs nothing."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from longact_cli.reporting.render.html_ import STYLE, grid
from longact_cli.reporting.table import Provenance, Table

_MORE_STYLE = """
figure { margin: 1.5rem 0; } img { max-width: 100%; } section { overflow-x: auto; }
""".strip()


def page(
    title: str,
    tables: Sequence[Table],
    pictures: Mapping[str, bytes],
    provenance: Provenance,
) -> str:
    """Return the page: tables with their notes, figures as embedded SVG, provenance.

    Args:
        title: Heading.
        tables: Shown first, in order.
        pictures: SVG files by caption, in order.
        provenance: Shown last.
    """
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8"><title>{escape(title)}</title>',
            f"<style>\n{STYLE}\n{_MORE_STYLE}\n</style></head>",
            "<body>",
            f"<h1>{escape(title)}</h1>",
            *(f"<section>\n{grid(table)}\n{_notes(table.notes)}\n</section>" for table in tables),
            *(_picture(caption, svg) for caption, svg in pictures.items()),
            "<footer>\n<h2>Provenance</h2>",
            "<pre>" + "\n".join(escape(line) for line in provenance.lines()) + "</pre>",
            "</footer>",
            "</body>\n</html>\n",
        ]
    )


def _notes(lines: Iterable[str]) -> str:
    items = "\n".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>\n{items}\n</ul>"


def _picture(caption: str, svg: bytes) -> str:
    """Return a figure; an SVG inside an image cannot run scripts or reach the network."""
    data = b64encode(svg).decode("ascii")
    text = escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
