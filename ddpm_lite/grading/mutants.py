"""Every mutant of a function that one edit of its syntax tree makes."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Mutant", "mutants"]

OPERATORS: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Div,),
    ast.Pow: (ast.Mult,),
}
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
IN_PLACE = {ast.Add: "add_", ast.Sub: "sub_", ast.Mult: "mul_", ast.Div: "div_"}
DROPPED = {"sqrt", "square", "exp", "log", "log1p", "expm1", "abs", "t", "inverse", "transpose", "flip", "clamp"}
TURNED = {"T", "mT"}
RENAMED = {"sum": "mean", "mean": "sum", "amax": "amin", "amin": "amax", "sin": "cos", "cos": "sin"}
RENAMED |= {"cumsum": "cumprod", "cumprod": "cumsum", "std": "var", "var": "std", "minimum": "maximum"}
RENAMED |= {"maximum": "minimum", "zeros": "ones", "ones": "zeros", "zeros_like": "ones_like"}


@dataclass(frozen=True)
class Mutant:
    """A source with one edit; line: its first line that differs from the solution's, as the tree is written out."""

    line: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Return the mutants of a source, each once.

    Edits: another operator or operands exchanged; a comparison off by one; a constant plus or minus 1; a minus, a
    square root or another function dropped; sum for mean and the like; two neighbouring arguments exchanged; an
    option left out; an index one further; an argument of the function changed in place.
    """
    tree = _without_docstrings(ast.parse(source))
    plain = ast.unparse(tree)
    arguments = {arg.arg for arg in ast.walk(tree) if isinstance(arg, ast.arg)}
    found: dict[str, Mutant] = {}
    for place, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.expr | ast.AugAssign | ast.Return):
            for edited in _edits(node, arguments):
                text = ast.unparse(_replaced(tree, place, edited))
                if text != plain:
                    found.setdefault(text, Mutant(_first_difference(plain, text), text))
    return list(found.values())


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _replaced(tree: ast.Module, place: int, edited: ast.AST) -> ast.Module:
    """Return a copy of the tree in which the node at this place of the walk is another."""
    new = copy.deepcopy(tree)
    target = list(ast.walk(new))[place]
    for parent in ast.walk(new):
        for name, value in ast.iter_fields(parent):
            if value is target:
                setattr(parent, name, edited)
            elif isinstance(value, list):
                value[:] = [edited if item is target else item for item in value]
    return ast.fix_missing_locations(new)


def _first_difference(plain: str, text: str) -> str:
    before, after = plain.splitlines(), text.splitlines()
    return next(new.strip() for old, new in zip([*before, None], after, strict=False) if new != old)


def _edits(node: ast.AST, arguments: set[str]) -> Iterator[ast.AST]:
    """Yield what may stand in a node's place; nothing that is yielded is part of the tree itself."""
    node = copy.deepcopy(node)
    if isinstance(node, ast.BinOp):
        yield from _of_operation(node, arguments)
    elif isinstance(node, ast.AugAssign):
        for operator in OPERATORS.get(type(node.op), ()):
            yield ast.AugAssign(node.target, operator(), node.value)
    elif isinstance(node, ast.Return) and node.value is not None:
        for name in sorted(arguments):
            changed = ast.Call(ast.Attribute(ast.Name(name, ast.Load()), "add_", ast.Load()), [ast.Constant(1)], [])
            pair = ast.Tuple([node.value, changed], ast.Load())
            yield ast.Return(ast.Subscript(pair, ast.Constant(0), ast.Load()))
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield ast.Compare(node.left, [COMPARISONS[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield node.operand
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.Attribute) and node.attr in TURNED:
        yield node.value
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name | ast.BinOp):
        for step in (1, -1):
            shifted = ast.BinOp(node.slice, ast.Add(), ast.Constant(step))
            yield ast.Subscript(node.value, shifted, node.ctx)


def _of_operation(node: ast.BinOp, arguments: set[str]) -> Iterator[ast.AST]:
    for operator in OPERATORS.get(type(node.op), ()):
        yield ast.BinOp(node.left, operator(), node.right)
    if not isinstance(node.op, ast.Add | ast.Mult):
        yield ast.BinOp(node.right, node.op, node.left)
    if isinstance(node.op, ast.Pow):
        yield node.left
    if isinstance(node.left, ast.Name) and node.left.id in arguments and type(node.op) in IN_PLACE:
        yield ast.Call(ast.Attribute(node.left, IN_PLACE[type(node.op)], ast.Load()), [node.right], [])


def _of_constant(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)


def _of_call(node: ast.Call) -> Iterator[ast.AST]:
    args, function = node.args, node.func
    name = function.attr if isinstance(function, ast.Attribute) else ""
    for i in range(len(args) - 1):
        yield ast.Call(function, [*args[:i], args[i + 1], args[i], *args[i + 2 :]], node.keywords)
    for i in range(len(node.keywords)):
        yield ast.Call(function, args, node.keywords[:i] + node.keywords[i + 1 :])
    if isinstance(function, ast.Attribute):
        owner = function.value
        if name in RENAMED:
            yield ast.Call(ast.Attribute(owner, RENAMED[name], ast.Load()), args, node.keywords)
        if name in DROPPED:
            of_module = isinstance(owner, ast.Name) and owner.id in ("torch", "math", "np")
            if not of_module:
                yield owner
            elif args:
                yield args[0]
