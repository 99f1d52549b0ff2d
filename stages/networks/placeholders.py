"""The parameters of a block: `$filters` in it stands for the value that each use gives.

A value that is `$filters` alone takes what is given, of any type. `4 * $filters` computes with
numbers. DVC has `${...}` for itself and leaves `$filters` alone.
"""

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

from stages.lib.command import UserError

PLACEHOLDER = re.compile(r"\$([A-Za-z_]\w*)", re.ASCII)
Number = int | float


def placeholders(value: Any) -> set[str]:
    """Returns the names of the parameters that stand anywhere in `value`."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return {name for each in inner for name in placeholders(each)}
    return set(PLACEHOLDER.findall(value)) if isinstance(value, str) else set()


def fill(value: Any, parameters: dict[str, Any], key: str) -> Any:
    """Returns a copy of `value`, which stands at `key`, with `parameters` for its placeholders.

    Raises:
        UserError: A placeholder has no parameter, or a formula is none.
    """
    if isinstance(value, dict):
        return {name: fill(each, parameters, f"{key}.{name}") for name, each in value.items()}
    if isinstance(value, list):
        return [fill(each, parameters, f"{key}[{index}]") for index, each in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value
    if unknown := sorted(placeholders(value) - parameters.keys()):
        raise UserError(
            f"params.yaml: {key}: '${unknown[0]}' stands for a parameter of a block, and these "
            "layers are in none: write the value itself"
        )
    if whole := PLACEHOLDER.fullmatch(value):
        return parameters[whole[1]]
    try:
        # The prefix tells `$filters` from `filters`, and from the words of Python.
        tree = ast.parse(PLACEHOLDER.sub(r"_of_block_\1", value).strip(), mode="eval")
        named = {f"_of_block_{name}": given for name, given in parameters.items()}
        return _compute(tree.body, named)
    except (SyntaxError, ValueError, KeyError) as error:
        raise UserError(
            f"params.yaml: {key}: expected $names and numbers with + - * / and brackets, "
            f"found '{value}'"
        ) from error
    except ZeroDivisionError as error:
        raise UserError(f"params.yaml: {key}: '{value}' divides by zero") from error


def _compute(node: ast.expr, named: dict[str, Any]) -> Number:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        return OPERATIONS[type(node.op)](_compute(node.left, named), _compute(node.right, named))
    value = named[node.id] if isinstance(node, ast.Name) else getattr(node, "value", None)
    if isinstance(value, bool) or not isinstance(value, Number):
        raise ValueError
    return value


def _divide(left: Number, right: Number) -> Number:
    """Divides; a whole number of filters stays one where nothing is left over."""
    whole = isinstance(left, int) and isinstance(right, int) and left % right == 0
    return left // right if whole else left / right


OPERATIONS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divide,
}
