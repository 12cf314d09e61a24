"""The clock that fault tests set in a process applies to every thread of the process."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.clocks import SteppedClock
from tests.patience import PATIENCE

_STEPS_AND_LOOKS = """
import json, sys, threading, time
from pathlib import Path
from tests.faults.clocks import SteppedClock

clock, started, seen, done = SteppedClock(Path(sys.argv[1])), time.time(), set(), False
def look():
    while not done:
        seen.add(round((time.time() - started) / 600))
threads = [threading.Thread(target=look) for _ in range(3)]
for thread in threads: thread.start()
wrong = 0
for seconds in (3600, 0) * 150:
    clock.step(seconds)
    wrong += abs(time.time() - started - seconds) > 600
done = True
for thread in threads: thread.join()
print(json.dumps([wrong, sorted(seen)]))
"""


def test_no_thread_sees_another_time_than_was_set(tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path / "clock")
    process = subprocess.run(
        [sys.executable, "-c", _STEPS_AND_LOOKS, str(tmp_path / "clock")],
        env=os.environ | dict(clock.environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert process.returncode == 0, process.stderr
    wrong, seen = json.loads(process.stdout)
    assert wrong == 0
    assert set(seen) <= {0, 6}, "units of ten minutes"
