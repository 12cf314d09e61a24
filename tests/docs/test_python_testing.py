"""docs/python-testing.md: its tests pass with its service, and fail if the service is not protected."""

import subprocess
import sys
from pathlib import Path

from tests.docs.recipes import DOCS
from tests.patience import PATIENCE

SERVICE, TESTS = (
    text.split("```\n", 1)[0] for text in (DOCS / "python-testing.md").read_text().split("```python\n")[1:]
)


def run(folder: Path, service: str) -> str:
    """Run the tests of the page on a service, and return the output of pytest."""
    (folder / "reports.py").write_text(service)
    (folder / "test_reports.py").write_text(TESTS)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.stdout + done.stderr


def test_the_tests_of_the_page_pass_with_its_service(tmp_path: Path) -> None:
    assert "4 passed" in run(tmp_path, SERVICE)


def test_they_find_a_scope_that_is_not_required(tmp_path: Path) -> None:
    printed = run(tmp_path, SERVICE.replace('["reports.read"]', "[]"))

    assert "FAILED test_reports.py::test_a_token_without_the_scope_is_refused" in printed
    assert "1 failed, 3 passed" in printed
