"""The comparison of two Python versions: it shows a ratio for each service, and needs two versions."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__, pythons
from benchmarks.measure import Figures, Findings
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[3]


def test_versions_of_python_are_compared_round_by_round() -> None:
    found = Findings(
        figures={
            "issue@3.11.7": Figures(title="", values=[100.0, 50.0]),
            "issue@3.13.0": Figures(title="", values=[120.0, 80.0], pace=[1.0, 1.0]),
            "verify@3.11.7": Figures(title="", values=[1.0, 1.0]),
        },
        absent={"verify@3.13.0": "it did not start"},
    )
    compared = pythons.Compared(versions=("3.11.7", "3.13.0"), found=found)
    assert compared.ratios == {"issue": [1.2, 1.6]}
    text = pythons.table(compared)
    [line] = [line for line in text.splitlines() if line.startswith("issue")]
    assert line.split() == ["issue", "75", "100", "1.40", "1.20..1.60"]
    assert "verify@3.13.0 not measured: it did not start" in text


@pytest.mark.parametrize(
    ("python", "reason"),
    [("python3.999", "there is no program python3.999"), (sys.executable, "name another version")],
)
def test_a_python_that_is_not_there_or_is_the_same_one_is_not_compared(python: str, reason: str) -> None:
    command = [sys.executable, "-m", "benchmarks", "--python", python]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert run.returncode == 2
    assert reason in run.stderr


def test_the_path_of_a_python_may_be_relative_although_the_service_runs_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "python"
    other.parent.mkdir()
    other.symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--python", "other/python"])

    assert __main__._arguments().python == str(other), "not the program that the link leads to, either"
