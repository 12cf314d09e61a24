"""Commands whose argument is an id that the service made: base64url, so one in 64 begins with a hyphen."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from typer.core import TyperCommand

_ID: Final = re.compile(r"-(?:[A-Za-z0-9_-]{10}|[A-Za-z0-9_-]{21}|[A-Za-z0-9_-]{42})")
"""With a hyphen first: 8 bytes (refresh keys), 16 (tokens, sessions, symmetric keys), 32 (thumbprints)."""


class IdCommand(TyperCommand):
    """A command that takes such an id for what it is, and not for an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, with ids that look like options behind `--`, where nothing is an option."""
        takes_value = {
            name: not getattr(option, "is_flag", False)
            for option in self.get_params(ctx)
            if option.param_type_name == "option"
            for name in (*option.opts, *option.secondary_opts)
        }
        return super().parse_args(ctx, with_ids_last(args, takes_value))


def with_ids_last(words: Sequence[str], takes_value: Mapping[str, bool]) -> list[str]:
    """Move the ids that begin with a hyphen behind `--`.

    Args:
        words: of the command line, after the name of the command.
        takes_value: the names of the command's options, and whether the word after each is its value.
    """
    others, ids = list[str](), list[str]()
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*others, "--", *ids, *rest]
        if word not in takes_value and _ID.fullmatch(word):
            ids.append(word)
            continue
        others.append(word)
        if takes_value.get(word):
            others += islice(rest, 1)
    return [*others, "--", *ids] if ids else others
