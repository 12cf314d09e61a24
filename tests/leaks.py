"""A pytest plugin that fails the run if the service writes a secret to a log, an error or the audit trail.

It searches every line that is logged while the tests run, in this process or by services that they start, and
every error that a service in this process returns, for text that has the form of a secret. Its report names
the test.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

from identity_service.grpc_api import errors
from identity_service.grpc_api.errors import to_status

_PATTERNS: Final = {
    "a JWT": re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}"),
    "a JWE": re.compile(r"eyJ[\w-]{10,}\.[\w-]*\.[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"),
    "a client secret": re.compile(r"idcs_[\w-]{20,}"),
    "a refresh token": re.compile(r"idrt_[\w.-]{20,}"),
    "a password hash": re.compile(r"\$argon2id\$"),
    "a private key": re.compile(r"PRIVATE KEY|\"d\":"),
    "a bearer header": re.compile(r"[Bb]earer [\w-]{20,}"),
    "a password of the tests": re.compile(r"correct horse|a wrong password|hunter2|s3cret"),
    "the master key of the tests": re.compile(r"a master key for tests"),
}
_LEAKS: Final = pytest.StashKey[list[str]]()
_LOGS: Final = "service.log"


def secrets_in(text: str) -> list[str]:
    """Return the kinds of secrets that a text seems to contain."""
    return [kind for kind, pattern in _PATTERNS.items() if pattern.search(text)]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LEAKS] = []


@pytest.fixture(scope="session", autouse=True)
def watched_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Search every status that a service in this process returns."""
    leaks = request.config.stash[_LEAKS]

    def watched(error: BaseException, request_id: str = "") -> Any:
        status = to_status(error, request_id)
        said = repr(status.details) + repr(status.trailing_metadata)
        leaks.extend(f"an error {status.code.name} holds {kind}" for kind in secrets_in(said))
        return status

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(errors, "to_status", watched)
        yield


@pytest.fixture(autouse=True)
def watched_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Search every line of the structured log, as values, before it is written."""
    leaks = request.config.stash[_LEAKS]
    name = request.node.nodeid

    def look(_: Any, __: str, event: Any) -> Any:
        leaks.extend(f"{name}: a log line holds {kind}" for kind in secrets_in(repr(event)))
        return event

    known = structlog.get_config()["processors"]
    structlog.configure(processors=[look, *known])
    yield
    structlog.configure(processors=known)


def pytest_sessionfinish(session: pytest.Session) -> None:
    leaks = session.config.stash[_LEAKS]
    factory: Any = getattr(session.config, "_tmp_path_factory", None)
    if factory is not None:
        leaks += [leak for path in factory.getbasetemp().rglob(_LOGS) for leak in leaks_of(path)]
    if leaks and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def leaks_of(log: Path) -> list[str]:
    """Return what secrets the log of a service process contains.

    Only structured lines count; texts that the service prints for people, such as a first password, are
    skipped.
    """
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("{")]
    kinds = [kind for line in lines for kind in secrets_in(line)]
    return [f"{log.parent.name}: a line of {log.name} holds {kind}" for kind in kinds]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    leaks = config.stash[_LEAKS]
    if leaks:
        terminalreporter.section("secrets leaked", red=True)
        for leak in sorted(set(leaks)):
            terminalreporter.line(leak)
