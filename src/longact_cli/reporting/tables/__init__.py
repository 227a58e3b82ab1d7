"""The tables a report can hold. A file in this folder that registers a builder is all it takes."""

from importlib import import_module
from pkgutil import iter_modules

from longact_cli.reporting.tables.base import TABLES, TableBuilder

__all__ = ["TABLES", "TableBuilder"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
