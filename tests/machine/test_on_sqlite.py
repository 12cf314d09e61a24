"""The state machine of clients and faults, run on SQLite."""

from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from tests.machine.running import MARKS, ON_EACH_STORE, run
from tests.machine.sqlite_target import SqliteTarget

ON_SQLITE: Final = {f"files removed: {names}" for names in ("-wal -shm", "-wal", "-shm")}

pytestmark = MARKS


def test_nothing_revoked_is_accepted_again_on_sqlite(tmp_path: Path) -> None:
    run(lambda clock: SqliteTarget(Path(mkdtemp(dir=tmp_path))), ON_EACH_STORE | ON_SQLITE)
