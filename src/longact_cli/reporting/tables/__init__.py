"""The tables a report can hold. A file in this folder that registers a builder is all it takes."""

from importlib import import_module
from pkgutil import iter_modules

from longact_cli.reporting.tables.base import TABLES, TableBuilder

__all__ = ["TABLES", "TableBuilder", "all_tables"]

_FIRST = ("main", "ruler", "infinitebench", "sparsity", "controls", "algorithms", "sizes")

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def all_tables() -> tuple[str, ...]:
    """Return the name of every table: the paper's in its order, then the others."""
    return (*_FIRST, *(name for name in TABLES.names() if name not in _FIRST))
