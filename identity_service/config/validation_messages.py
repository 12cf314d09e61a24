"""Rewords pydantic's validation errors for operators, without showing the value."""

from typing import Final

from pydantic_core import ErrorDetails

_KINDS: Final = {
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "path": "the path of a file",
    "tuple": "a list of texts",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}
"""A map from the first word of pydantic's error type to the kind of value that is expected."""


_BOUNDS: Final = {
    "literal_error": ("expected", "must be {}"),
    "enum": ("expected", "must be {}"),
    "greater_than_equal": ("ge", "must be at least {:,}"),
    "less_than_equal": ("le", "must be at most {:,}"),
    "string_too_short": ("min_length", "must have at least {} characters"),
    "string_too_long": ("max_length", "must have at most {} characters"),
    "too_short": ("min_length", "must have at least {} entries"),
    "too_long": ("max_length", "must have at most {} entries"),
}
"""A map from pydantic's error type to the key of the bound in the error's context, and the message."""


def reword(problem: ErrorDetails) -> str:
    """Return the rule that the value breaks; pydantic's own message speaks of inputs and parsing."""
    kind = problem["type"]
    if kind in _BOUNDS:
        bound, text = _BOUNDS[kind]
        return text.format(problem["ctx"][bound])
    match kind:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not known here"
        case "value_error":
            return problem["msg"].removeprefix("Value error, ")
        case _:
            return f"must be {_KINDS.get(kind.partition('_')[0], 'another kind of value')}"
