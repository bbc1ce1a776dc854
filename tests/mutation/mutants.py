"""Small wrong programs: every way in which one operator, number, branch or statement of a function could be another."""

import ast
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
"""Each comparison's neighbour, which differs at the edge only, and its opposite."""

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.RShift: ast.LShift,
}


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        name: Function and change, as in `mark: value > account.peak -> value >= account.peak`; one name per file.
        line: Where it is.
        source: The whole file with it.
    """

    name: str
    line: int
    source: str


def of_expression(node: ast.AST) -> Iterator[ast.expr]:
    """What an expression could be instead."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            for other in COMPARISONS[type(op)]:
                yield ast.Compare(node.left, [other()], node.comparators)
        case ast.BinOp(op=op) if type(op) in OPERATORS:
            yield ast.BinOp(node.left, OPERATORS[type(op)](), node.right)
        case ast.BoolOp(op=op):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.IfExp():
            yield ast.IfExp(node.test, node.orelse, node.body)
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)


def of_statement(node: ast.AST) -> Iterator[ast.stmt]:
    """What a statement could be instead."""
    match node:
        case ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield ast.AugAssign(node.target, OPERATORS[type(op)](), node.value)
            yield ast.Pass()
        case ast.If(test=ast.Name() | ast.Attribute() | ast.Call() as test):
            changed = deepcopy(node)
            changed.test = ast.UnaryOp(ast.Not(), test)
            yield changed
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript() | ast.Tuple()]) | ast.Expr(value=ast.Call()):
            yield ast.Pass()


def mutants(source: str) -> list[Mutant]:
    """Every mutant of the functions of a module, in the order of its lines."""
    lines = source.encode().splitlines(keepends=True)
    starts = [sum(map(len, lines[:n])) for n in range(len(lines) + 1)]
    raw = source.encode()
    told: Counter[str] = Counter()
    found = []
    tree = ast.parse(source)
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for node in (inner for statement in function.body for inner in ast.walk(statement)):
            for changed in (*of_expression(node), *of_statement(node)):
                start = starts[node.lineno - 1] + node.col_offset
                stop = starts[node.end_lineno - 1] + node.end_col_offset
                text = _text(changed, node)
                name = f"{function.name}: {_short(ast.unparse(node))} -> {_short(text.strip('()'))}"
                told[name] += 1
                name += f" #{told[name]}" if told[name] > 1 else ""
                found.append(Mutant(name, node.lineno, (raw[:start] + text.encode() + raw[stop:]).decode()))
    return sorted(found, key=lambda mutant: mutant.line)


def _text(changed: ast.AST, node: ast.AST) -> str:
    text = ast.unparse(ast.fix_missing_locations(changed))
    if isinstance(changed, ast.expr):
        return f"({text})"  # the place may bind more tightly than what is put there
    return text.replace("\n", "\n" + " " * node.col_offset)


def _short(text: str) -> str:
    """The first line, where a whole block is meant."""
    first, _, rest = text.partition("\n")
    return f"{first} ..." if rest else first
