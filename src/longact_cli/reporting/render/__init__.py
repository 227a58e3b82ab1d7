"""Table renderers by format name; each turns a `Table` into the text of one file."""

from collections.abc import Callable

from longact_cli.registry import Registry
from longact_cli.reporting.render.csv_ import to_csv
from longact_cli.reporting.render.html_ import to_html
from longact_cli.reporting.render.json_ import to_json
from longact_cli.reporting.render.latex import to_latex
from longact_cli.reporting.render.markdown import to_markdown
from longact_cli.reporting.table import Table

__all__ = ["FORMATS"]

FORMATS: Registry[Callable[[Table], str]] = Registry("report.format")
for _name, _renderer in (
    ("csv", to_csv),
    ("html", to_html),
    ("json", to_json),
    ("md", to_markdown),
    ("tex", to_latex),
):
    FORMATS.register(_name)(_renderer)
