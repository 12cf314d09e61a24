"""Ids on the command line: they are base64url text, so one in 64 begins with a hyphen, like an option."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from typer.core import TyperCommand

_ID: Final = re.compile(r"-(?:[A-Za-z0-9_-]{10}|[A-Za-z0-9_-]{21}|[A-Za-z0-9_-]{42})")
"""An id that begins with a hyphen, in base64url: 8 bytes (refresh keys), 16 (tokens, sessions, symmetric
keys) or 32 (thumbprints)."""
_OPTION: Final = re.compile(r"--[a-z]+(?:-[a-z]+)*")
"""The form of a long option, which is not taken as an id, so that a misspelt option is reported as such.
Fewer than one id in a million has this form."""


class IdCommand(TyperCommand):
    """A command that reads an id beginning with a hyphen as an argument, not as an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after moving ids that look like options behind `--`."""
        takes_value = {
            name: not getattr(option, "is_flag", False)
            for option in self.get_params(ctx)
            if option.param_type_name == "option"
            for name in (*option.opts, *option.secondary_opts)
        }
        return super().parse_args(ctx, with_ids_last(args, takes_value))


def with_ids_last(words: Sequence[str], takes_value: Mapping[str, bool]) -> list[str]:
    """Return the words with the ids that begin with a hyphen moved behind `--`.

    Args:
        words: the words of the command line after the name of the command.
        takes_value: for the name of each option, whether the next word is its value.
    """
    others, ids = list[str](), list[str]()
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*others, "--", *ids, *rest]
        if word not in takes_value and _ID.fullmatch(word) and not _OPTION.fullmatch(word):
            ids.append(word)
            continue
        others.append(word)
        if takes_value.get(word):
            others += islice(rest, 1)
    return [*others, "--", *ids] if ids else others
