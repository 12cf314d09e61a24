"""A page in a real Chromium, which `browser/drive.mjs` controls. Asserts nothing about the page."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from tests.patience import PATIENCE, until

Colours = Literal["light", "dark"]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of a browser. Its methods find elements by CSS selectors."""

    to_browser: IO[str]
    from_browser: IO[str]

    def renew(self) -> None:
        """Replace the page with a new one that has none of its storage."""
        self._call("renew")

    def use(self, colours: Colours) -> None:
        """Make the browser prefer these colours (light or dark), as a setting of the system would."""
        self._call("emulateMedia", {"colorScheme": colours})

    def open(self, url: str) -> None:
        self._call("goto", url)

    def fill(self, selector: str, text: str) -> None:
        self._call("fill", text, selector=selector)

    def click(self, selector: str) -> None:
        # The page never leaves its address, and Chromium does not always say that a click has begun nothing.
        self._call("click", {"noWaitAfter": True}, selector=selector)

    def text(self, selector: str) -> str:
        return str(self._call("innerText", selector=selector))

    def count(self, selector: str) -> int:
        return int(self._call("count", selector=selector))

    def await_text(self, selector: str, *parts: str) -> str:
        """Wait until the text of an element contains one of these parts; return the whole text."""
        until(lambda: any(part in self.text(selector) for part in parts))
        return self.text(selector)

    def evaluate(self, script: str) -> Any:
        return self._call("evaluate", script)

    def complaints(self) -> list[str]:
        """Return the errors on the console, such as script errors and violations of the CSP."""
        found: list[str] = self._call("complaints")
        return found

    def screenshot(self, file: Path) -> None:
        self._call("screenshot", {"path": str(file), "fullPage": True})

    def _call(self, method: str, *args: object, selector: str = "") -> Any:
        self.to_browser.write(json.dumps({"selector": selector, "method": method, "args": args}) + "\n")
        self.to_browser.flush()
        line = self.from_browser.readline()
        assert line, "the browser has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer.get("value")


@contextmanager
def browsing(folder: Path, executable: str) -> Iterator[Page]:
    """Run a browser until the block ends; yield its page.

    The folder has `drive.mjs` and its libraries. `renew` must be called first: it opens the page.
    """
    with subprocess.Popen(
        ["node", "drive.mjs", executable],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Page(to_browser=process.stdin, from_browser=process.stdout)
            process.stdin.close()
            process.wait(PATIENCE)
        finally:
            process.kill()
