"""The scripts of `lua/`, each between the shared prelude and epilogue. Knows nothing of what they do."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

_AROUND: Final = ("prelude", "epilogue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script, and the name by which Redis knows it."""

    text: str
    sha: str


def load_scripts() -> Mapping[str, Script]:
    """Every script by name."""
    folder = resources.files(__package__).joinpath("lua")
    prelude, epilogue = (folder.joinpath(f"{name}.lua").read_text() for name in _AROUND)
    scripts = {}
    for file in folder.iterdir():
        if file.name.endswith(".lua") and file.name.removesuffix(".lua") not in _AROUND:
            text = prelude + file.read_text() + epilogue
            sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # how Redis names it
            scripts[file.name.removesuffix(".lua")] = Script(text=text, sha=sha)
    return scripts
