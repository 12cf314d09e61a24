"""Runs the recipes of a page as a reader would: the blocks of each section in order, in one folder.

The module parses Markdown and starts a shell. It does not know the right output of a recipe.
"""

import os
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.patience import PATIENCE

DOCS: Final = Path(__file__).parents[2] / "docs"
INSTALLED: Final = Path(sys.executable).parent / "identity"
_HEADING: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of code on a page of the documentation."""

    language: str
    code: str

    def run(self, folder: Path, environment: Mapping[str, str], places: Mapping[str, str]) -> str:
        """Run the block; return its output. `places` maps texts of the page to their replacements here."""
        code = self.code
        for place, here in places.items():
            code = code.replace(place, here)
        words = ("bash", "-euo", "pipefail", "-c") if self.language == "sh" else (sys.executable, "-c")
        path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            [*words, code],
            cwd=folder,
            env={"HOME": str(folder), **environment, "PATH": path},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        return done.stdout


def sections(page: str, languages: Collection[str] = ("sh", "python")) -> dict[str, list[Block]]:
    """Return the blocks in these languages of a page, by the heading of their section."""
    _, *parts = _HEADING.split((DOCS / page).read_text(encoding="utf-8"))
    return {
        heading: [
            Block(language=language, code=code)
            for language, code in _BLOCK.findall(text)
            if language in languages
        ]
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }


def compile_reports(folder: Path) -> None:
    """Generate the Python modules of the gRPC service `reports`, which the pages about Python use."""
    (proto,) = sections("python-protecting.md", ["proto"])["gRPC with threads"]
    (folder / "reports.proto").write_text(proto.code)
    words = ["grpc_tools.protoc", "-I", ".", "--python_out=.", "--grpc_python_out=.", "reports.proto"]
    subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True, timeout=PATIENCE)


def link_program(folder: Path, program: Path) -> None:
    """Make a program the first one in the PATH of the blocks."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / program.name).symlink_to(program)


def put_program(folder: Path, name: str, prints: str) -> None:
    """Make a stand-in for an external program the first one in the PATH; it prints a fixed text."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / f"{name}.out").write_text(prints)
    program = folder / "bin" / name
    program.write_text(f"#!/bin/sh\nexec cat {folder / name}.out\n")
    program.chmod(0o755)
