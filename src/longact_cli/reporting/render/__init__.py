"""Table renderers by format name; each turns a `Table` into the text of one file.

HTML is not among them: it is one page for the whole report.
"""

from collections.abc import Callable

from longact_cli.registry import Registry
from longact_cli.reporting.render.csv_ import to_csv
from longact_cli.reporting.render.json_ import to_json
from longact_cli.reporting.render.latex import to_latex
from longact_cli.reporting.render.markdown import to_markdown
from longact_cli.reporting.table import Table

__all__ = ["FORMATS"]

FORMATS: Registry[Callable[[Table], str]] = Registry("report.format")
for _name, _renderer in (
    ("csv", to_csv),
    ("json", to_json),
    ("md", to_markdown),
    ("tex", to_latex),
):
    FORMATS.register(_name)(_renderer)
