"""`identity watch`: prints revocations and key changes live; reconnects, and resumes where it was."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import Annotated, NoReturn

import typer

from identity_client import (
    GenerationRaised,
    KeySet,
    Revocation,
    SessionEnded,
    TokenDenied,
    WatchEvent,
)
from identity_service.cli.following import follow
from identity_service.cli.output import Exit, JsonFlag, fail, put_json, put_styled
from identity_service.cli.remote import Remote


def watch(
    *,
    resume_after: Annotated[
        str, typer.Option("--resume-after", help="The last revision seen: show the changes after it first.")
    ] = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show heartbeats too.")] = False,
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """Print the revocations in force, then every change as it happens, until Ctrl-C."""
    signal.signal(signal.SIGTERM, _leave)
    show = _show_json if as_json else _show_text
    with service.trust() as client:
        try:
            for event in follow(client.watch, resume_after, lambda event: event.revision):
                for line in _lines(event, verbose=verbose):
                    show(line)
        except KeyboardInterrupt:
            pass
        except ValueError as error:
            fail(str(error), Exit.FAILED)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _lines(event: WatchEvent, *, verbose: bool) -> Iterator[dict[str, object]]:
    """Yield one line, as names and values, for each part of a WatchEvent."""
    if event.restarted:
        yield {"event": "restarted"}
    if event.keys is not None:
        yield {"event": "keys", "keys": _keys(event.keys)}
    for revocation in event.revocations:
        yield _line(revocation)
    if event.time is None:
        if event.revision:
            yield {"event": "known", "revision": event.revision}
    elif verbose:
        staleness = event.staleness.total_seconds() if event.staleness is not None else None
        yield {"event": "heartbeat", "revision": event.revision, "time": event.time, "staleness": staleness}


def _keys(keys: KeySet) -> list[str]:
    return [f"{key.key_id} {key.algorithm} {key.state.lower()}" for key in keys.keys]


def _line(revocation: Revocation) -> dict[str, object]:
    match revocation:
        case TokenDenied():
            return {"event": "token_denied", "id": revocation.token_id, "until": revocation.deny_until}
        case SessionEnded():
            return {"event": "session_ended", "id": revocation.session_id, "until": revocation.deny_until}
        case GenerationRaised():
            return {
                "event": "generation_raised",
                "id": revocation.principal,
                "number": revocation.number,
                "link": revocation.link,
            }


def _show_json(line: dict[str, object]) -> None:
    times = {name: value.isoformat() for name, value in line.items() if isinstance(value, datetime)}
    put_json(line | times)


def _show_text(line: dict[str, object]) -> None:
    """Print a line as text: the current time in UTC, the event, and its values."""
    event, *values = line.values()
    rest = "  ".join(map(_plain, values))
    put_styled((f"{datetime.now(UTC):%H:%M:%S}  ", "dim"), (f"{event!s:<18}", "bold"), (rest, ""))


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return " · ".join(map(str, value)) if isinstance(value, list) else str(value)
