"""Loading the scripts of `lua/`, each between the shared prelude and epilogue.

This module does not know the purpose of any script.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Final

_AROUND: Final = ("prelude", "epilogue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A Lua script with its digest."""

    text: str
    """The source, prelude and epilogue included."""
    sha: str
    """The SHA-1 digest of the source in hexadecimal, as EVALSHA takes it."""


@cache
def load_scripts() -> Mapping[str, Script]:
    """Return every script by its name, which is that of its file without the suffix."""
    folder = resources.files(__package__).joinpath("lua")
    prelude, epilogue = (folder.joinpath(f"{name}.lua").read_text() for name in _AROUND)
    scripts = {}
    for file in folder.iterdir():
        if file.name.endswith(".lua") and file.name.removesuffix(".lua") not in _AROUND:
            text = prelude + file.read_text() + epilogue
            sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # as Redis does
            scripts[file.name.removesuffix(".lua")] = Script(text=text, sha=sha)
    return MappingProxyType(scripts)
