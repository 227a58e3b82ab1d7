"""One-token changes of a module: flipped comparisons, signs, polarities, bounds and constants."""

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {"min": "max", "max": "min", "amin": "amax", "amax": "amin", "all": "any", "any": "all"}


class Mutant(NamedTuple):
    """A changed module.

    Attributes:
        line: Where the change is.
        change: What it is, e.g. `Lt -> LtE`.
        source: The whole module.
    """

    line: int
    change: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every one-token change of a module; annotations and docstrings stay as they are."""
    tree = ast.parse(source)
    skipped = {id(node) for part in _left_alone(tree) for node in ast.walk(part)}
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in skipped:
            continue
        for number, change in enumerate(_changes(node)):
            mutated = copy.deepcopy(tree)
            target = list(ast.walk(mutated))[place]
            changes = list(_changes(target))
            changes[number][1]()
            yield Mutant(getattr(node, "lineno", 0), change[0], ast.unparse(mutated))


def _left_alone(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            yield node.annotation
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield node.returns
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node
        if isinstance(node, ast.JoinedStr | ast.Raise | ast.Import | ast.ImportFrom):
            yield node


def _changes(node: ast.AST):
    """Yield (description, function that applies the change to the node)."""
    if isinstance(node, ast.Compare):
        yield from _comparisons(node)
    elif isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp | ast.UnaryOp):
        yield from _operators(node)
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Name | ast.Attribute):
        yield from _names(node)


def _comparisons(node: ast.Compare):
    for index, operator in enumerate(node.ops):
        for other in _COMPARISONS.get(type(operator), ()):
            name = f"{type(operator).__name__} -> {other.__name__}"
            yield name, lambda i=index, o=other: node.ops.__setitem__(i, o())


def _operators(node: ast.BinOp | ast.AugAssign | ast.BoolOp | ast.UnaryOp):
    kind = type(node.op)
    swaps = {**_OPERATORS, ast.And: ast.Or, ast.Or: ast.And}
    if kind in swaps:
        other = swaps[kind]
        yield f"{kind.__name__} -> {other.__name__}", lambda: setattr(node, "op", other())
    elif kind in (ast.Not, ast.Invert, ast.USub):
        # Twice is not at all, and keeps the type.
        operand = node.operand
        yield (
            f"{kind.__name__} removed",
            lambda: setattr(node, "operand", ast.UnaryOp(kind(), operand)),
        )


def _names(node: ast.Name | ast.Attribute):
    field = "id" if isinstance(node, ast.Name) else "attr"
    name = getattr(node, field)
    if name in _NAMES:
        yield f"{name} -> {_NAMES[name]}", lambda: setattr(node, field, _NAMES[name])


def _constants(node: ast.Constant):
    if isinstance(node.value, bool):
        yield f"{node.value} flipped", lambda: setattr(node, "value", not node.value)
    elif isinstance(node.value, int | float):
        yield f"{node.value} + 1", lambda: setattr(node, "value", node.value + 1)
