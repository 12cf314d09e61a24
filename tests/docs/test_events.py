"""docs/events.md lists every event that the service logs, and the level of each."""

import re
from typing import Final

from identity_service.telemetry import logs
from tests.docs.recipes import DOCS

_SOURCES: Final = DOCS.parent / "identity_service"
_RECORDED: Final = re.compile(r'\.record\(\s*"([a-z_]+)"|RateLimitedEvent\("([a-z_]+)"')
_LOGGED: Final = re.compile(r'\.(error|warning)\(\s*"([a-z_]+)"|write_(error)\("([a-z_]+)"')
_ROW: Final = re.compile(r"^\| (`.+?`) \| (error|warning|info) \|", re.MULTILINE)


def _recorded() -> dict[str, str]:
    """Return the events that are logged through the port EventLog, and the level of each."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(_SOURCES.rglob("*.py")))
    names = {first or second for first, second in _RECORDED.findall(text)} | logs.ERRORS | logs.WARNINGS
    return {name: logs.level_of(name) for name in names}


def _logged() -> dict[str, str]:
    """Return the events that are logged without the port EventLog, and the level of each."""
    found = {"log_lines_dropped": "warning"}
    for path in sorted(_SOURCES.rglob("*.py")):
        for level, name, forced, forced_name in _LOGGED.findall(path.read_text(encoding="utf-8")):
            found[name or forced_name] = level or forced
    return found


def test_the_page_lists_every_event_with_its_level() -> None:
    page = (DOCS / "events.md").read_text(encoding="utf-8")
    listed = {name: level for names, level in _ROW.findall(page) for name in re.findall("`([a-z_]+)`", names)}

    assert listed == _recorded() | _logged()
