"""The scripts of `lua/`, each behind the shared prelude. Knows nothing of what they do."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script, and the name by which Redis knows it."""

    text: str
    sha: str


def load_scripts() -> Mapping[str, Script]:
    """Every script by name."""
    folder = resources.files(__package__).joinpath("lua")
    prelude = folder.joinpath("prelude.lua").read_text()
    scripts = {}
    for file in folder.iterdir():
        if file.name.endswith(".lua") and file.name != "prelude.lua":
            text = prelude + file.read_text()
            sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # how Redis names it
            scripts[file.name.removesuffix(".lua")] = Script(text=text, sha=sha)
    return scripts
