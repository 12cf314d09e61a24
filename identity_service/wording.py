"""What pydantic finds wrong with a value, in the words of this project. Never shows the value."""

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
"""Of a value, by the first word of pydantic's name for what is wrong with it."""


def reword(problem: ErrorDetails) -> str:
    """What must be; pydantic speaks of inputs, parsing and strings."""
    bounds = problem.get("ctx", {})
    match problem["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not known here"
        case "literal_error" | "enum":
            return f"must be {bounds['expected']}"
        case "greater_than_equal":
            return f"must be at least {bounds['ge']:,}"
        case "less_than_equal":
            return f"must be at most {bounds['le']:,}"
        case "string_too_short":
            return f"must have at least {bounds['min_length']} characters"
        case "too_short":
            return f"must have at least {bounds['min_length']} entries"
        case "string_too_long":
            return f"must have at most {bounds['max_length']} characters"
        case "value_error":
            return problem["msg"].removeprefix("Value error, ")
        case kind:
            return f"must be {_KINDS.get(kind.partition('_')[0], 'another kind of value')}"
