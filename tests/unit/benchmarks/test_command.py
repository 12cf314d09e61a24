"""The command of the benchmarks: it measures, reports missing tools, and exits with the right code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core serves and another makes the load")
def test_one_bar_is_measured_with_a_real_service(tmp_path: Path) -> None:
    """Bar S11 needs neither h2load nor another product; without a soak of each engine it cannot pass."""
    command = [sys.executable, "-m", "benchmarks", "--bars", "s11", "--rounds", "1", "--save"]
    command += [str(tmp_path / "bench.json")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    answer = json.loads((tmp_path / "bench.json").read_text())
    [bar] = answer["bars"]
    memory, cpu, *soak = bar["conditions"]
    assert bar["bar"] == "S11"
    assert memory["value"] == answer["figures"]["idle-worker-mb"]["rounds"][0] > 20
    assert 0 < cpu["value"] == answer["figures"]["idle-worker-cpu"]["rounds"][0]
    assert len(soak) == 7
    assert "Memory of an idle worker" in run.stdout
    assert run.returncode == (0 if bar["verdict"] == "pass" else 1)


def test_an_unknown_bar_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "benchmarks", "--bars", "S99"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert run.returncode == 2
    assert "S99" in run.stderr
