"""Changes of one place of a module, each of which should make a test fail."""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Change = tuple[ast.AST, str, str]
"""The node to replace, the kind of the change, and the text that replaces it."""

COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}
NOT_RUN = ("TYPE_CHECKING", "__name__ == '__main__'")
NOT_CHANGED = (ast.Raise, ast.Assert, ast.JoinedStr)
"""Texts of messages, and what a type checker reads."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of one place."""

    file: str
    """Path in the repository."""
    line: int
    kind: str
    code: str
    """The code of the place, with single spaces."""
    changed: str
    """The code that replaces it."""
    start: int
    end: int
    """The place in the bytes of the file."""

    def apply(self, data: bytes) -> bytes:
        """The bytes of the file with the change."""
        return data[: self.start] + self.changed.encode() + data[self.end :]


def mutants_of(file: Path, root: Path) -> Iterator[Mutant]:
    """All mutants of a module, in the order of its code."""
    data = file.read_bytes()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in _running(ast.parse(data)):
        for place, kind, changed in CHANGES.get(type(node), _none)(node):
            start = starts[place.lineno - 1] + place.col_offset
            end = starts[place.end_lineno - 1] + place.end_col_offset
            yield Mutant(
                file=file.relative_to(root).as_posix(),
                line=place.lineno,
                kind=kind,
                code=" ".join(data[start:end].decode().split()),
                changed=changed,
                start=start,
                end=end,
            )


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run: no annotations, decorators, or docstrings."""
    if isinstance(node, NOT_CHANGED) or (isinstance(node, ast.If) and ast.unparse(node.test) in NOT_RUN):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _running(child)


def _replaced(node: ast.AST, **fields: object) -> str:
    copied = copy.copy(node)
    for name, value in fields.items():
        setattr(copied, name, value)
    return f"({ast.unparse(copied)})"


def _none(node: ast.AST) -> Iterator[Change]:
    yield from ()


def _comparison(node: ast.Compare) -> Iterator[Change]:
    for index, operator in enumerate(node.ops):
        if other := COMPARISONS.get(type(operator)):
            operators = [*node.ops[:index], other(), *node.ops[index + 1 :]]
            yield node, "comparison", _replaced(node, ops=operators)


def _arithmetic(node: ast.BinOp) -> Iterator[Change]:
    is_text = isinstance(node.left, ast.JoinedStr | ast.Constant) and not isinstance(
        getattr(node.left, "value", None), int | float
    )
    if not is_text and (other := ARITHMETIC.get(type(node.op))):
        yield node, "arithmetic", _replaced(node, op=other())


def _logic(node: ast.BoolOp) -> Iterator[Change]:
    yield node, "logic", _replaced(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())


def _negation(node: ast.UnaryOp) -> Iterator[Change]:
    if isinstance(node.op, ast.Not):
        yield node, "logic", f"({ast.unparse(node.operand)})"


def _constant(node: ast.Constant) -> Iterator[Change]:
    if isinstance(node.value, bool):
        yield node, "constant", str(not node.value)
    elif isinstance(node.value, int | float):
        yield node, "constant", repr(node.value + 1)


def _call(node: ast.Call) -> Iterator[Change]:
    function = node.func
    name = (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )
    if name in FUNCTIONS:
        yield function, "function", ast.unparse(function).removesuffix(name) + FUNCTIONS[name]
    for keyword in node.keywords:
        if keyword.arg:
            yield node, "argument", _replaced(node, keywords=[each for each in node.keywords if each is not keyword])


def _branches(node: ast.IfExp) -> Iterator[Change]:
    yield node, "branch", _replaced(node, body=node.orelse, orelse=node.body)


def _condition(node: ast.If | ast.While) -> Iterator[Change]:
    if not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant):
        yield node.test, "condition", f"(not ({ast.unparse(node.test)}))"


def _return(node: ast.Return) -> Iterator[Change]:
    if node.value is not None and not isinstance(node.value, ast.Constant):
        yield node, "return", "return None"


def _call_statement(node: ast.Expr) -> Iterator[Change]:
    if isinstance(node.value, ast.Call):
        yield node, "statement", "pass"


def _assignment(node: ast.Assign) -> Iterator[Change]:
    if isinstance(node.targets[0], ast.Attribute | ast.Subscript):
        yield node, "statement", "pass"


def _statement(node: ast.AugAssign) -> Iterator[Change]:
    yield node, "statement", "pass"


def _break(node: ast.Break) -> Iterator[Change]:
    yield node, "jump", "continue"


def _continue(node: ast.Continue) -> Iterator[Change]:
    yield node, "jump", "break"


CHANGES: dict[type[ast.AST], Callable[..., Iterator[Change]]] = {
    ast.Compare: _comparison,
    ast.BinOp: _arithmetic,
    ast.BoolOp: _logic,
    ast.UnaryOp: _negation,
    ast.Constant: _constant,
    ast.Call: _call,
    ast.IfExp: _branches,
    ast.If: _condition,
    ast.While: _condition,
    ast.Return: _return,
    ast.Expr: _call_statement,
    ast.Assign: _assignment,
    ast.AugAssign: _statement,
    ast.Break: _break,
    ast.Continue: _continue,
}
