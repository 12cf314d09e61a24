"""Reads YAML as plain values with their lines: only the part of YAML that JSON has.

PyYAML composes the nodes, which know their lines and still contain duplicate keys. Scalars are interpreted
as in YAML 1.2: `no` and `2026-01-01` are strings; only `true` and `false` are booleans.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import yaml

from identity_service.domain.visible import escape

_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("map", "seq", "str", "int", "bool", "null", "float", "timestamp", "value", "merge")
)
"""The tags that PyYAML assigns by itself; any other tag was written in the file, and is refused."""
_TEXT: Final = "tag:yaml.org,2002:str"
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")
_CONSTANTS: Final = {"true": True, "false": False, "null": None, "~": None, "": None}
_MAX_NODES: Final = 100_000
"""The largest number of nodes of a document, since a small file with aliases can expand to a very large
document."""
_MAX_DEPTH: Final = 50
"""The most levels of a document. A declaration has six."""

Path = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A mistake in a document, with its place."""

    line: int
    path: Path
    what: str

    def __str__(self) -> str:
        return escape(f"{_format_path(self.path)}: {self.what}" if self.path else self.what)


@dataclass(slots=True)
class Document:
    """The value that a text holds, the line of each path in it, and the mistakes found so far."""

    value: object = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line_of(self, path: Sequence[str | int]) -> int:
        """Return the line of the value at a path, or of the nearest enclosing value that has a line."""
        known = tuple(path)
        while known and known not in self.lines:
            known = known[:-1]
        return self.lines.get(known, 1)

    def add(self, path: Path, what: str) -> None:
        """Add a problem, at the line of this path."""
        self.problems.append(Problem(line=self.line_of(path), path=path, what=what))


def read_document(text: str) -> Document:
    """Read a text as YAML. If it is not valid YAML, the document has no value and one problem."""
    document = Document()
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document.value = None if root is None else _Reader(document).read(root, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        document.problems.append(Problem(line=line, path=(), what=f"is not YAML: {error.problem}"))
    except yaml.YAMLError:  # from the reader: a character that YAML does not allow
        document.problems.append(Problem(line=1, path=(), what="is not YAML: must be UTF-8 text"))
    except RecursionError:
        document.problems.append(Problem(line=1, path=(), what="is nested too deeply"))
    except (ValueError, OverflowError):  # from the scanner, which converts numbers without checking them
        document.problems.append(
            Problem(line=1, path=(), what=r"is not YAML: has a \U or %YAML with too large a number")
        )
    return document


class _Reader:
    """A converter of YAML nodes to plain values, which adds their lines and problems to a document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0
        self._ancestors: list[yaml.Node] = []

    def read(self, node: yaml.Node, path: Path) -> object:
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        self._nodes += 1
        if self._nodes == _MAX_NODES:
            self._document.add(path, "is too large a document")
        if self._nodes >= _MAX_NODES:
            return None
        if any(node is outer for outer in self._ancestors):
            self._document.add(path, "must not be an alias of a value that contains it")
            return None
        if len(self._ancestors) == _MAX_DEPTH:
            raise RecursionError  # as PyYAML does for a still deeper document
        self._ancestors.append(node)
        try:
            return self._value(node, path)
        finally:
            self._ancestors.pop()

    def _value(self, node: yaml.Node, path: Path) -> object:
        if node.tag not in _TAGS:
            self._document.add(path, "must not have a tag")
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                return [self.read(each, (*path, index)) for index, each in enumerate(node.value)]
            case yaml.ScalarNode():
                return _scalar(node)
            case _:
                raise AssertionError("there are no other nodes")

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        values: dict[str, object] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._problem(line, path, "has a key that is not one text")
                continue
            inside = (*path, key.value)
            if key.value in values:
                self._problem(line, inside, f"was defined before, in line {self._document.lines[inside]}")
                continue
            self._document.lines[inside] = line
            values[key.value] = self.read(value, inside)
        return values

    def _problem(self, line: int, path: Path, what: str) -> None:
        self._document.problems.append(Problem(line=line, path=path, what=what))


def _scalar(node: yaml.ScalarNode) -> object:
    text: str = node.value
    if node.tag != _TEXT and node.style is None:  # otherwise the value is quoted
        if text.lower() in _CONSTANTS:
            return _CONSTANTS[text.lower()]
        if _INTEGER.fullmatch(text):
            return int(text)
    return text


def _format_path(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
