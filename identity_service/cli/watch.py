"""`identity watch`: what takes tokens back, live. Reconnects and resumes where it was."""

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
from identity_service.cli.remote import Service, connected


@connected
def watch(
    service: Service,
    resume_after: Annotated[
        str, typer.Option("--resume-after", help="The last revision that was seen; shows what came since.")
    ] = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show heartbeats too.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what is revoked now, then every change as it happens, until Ctrl-C."""
    signal.signal(signal.SIGTERM, _leave)
    printer = _Json() if as_json else _Human()
    with service.trust() as client:
        try:
            for news in follow(client.watch, resume_after, lambda news: news.revision):
                for line in _lines(news, verbose=verbose):
                    printer.show(line)
        except KeyboardInterrupt:
            pass
        except ValueError as error:
            fail(str(error), Exit.FAILED, as_json=as_json)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _lines(news: WatchEvent, *, verbose: bool) -> Iterator[dict[str, object]]:
    """One for each thing that a message says."""
    if news.restarted:
        yield {"event": "restarted"}
    if news.keys is not None:
        yield {"event": "keys", "keys": _keys(news.keys)}
    for revocation in news.revocations:
        yield _line(revocation)
    if news.time is None:
        if news.revision:
            yield {"event": "known", "revision": news.revision}
    elif verbose:
        staleness = news.staleness.total_seconds() if news.staleness is not None else None
        yield {"event": "heartbeat", "revision": news.revision, "time": news.time, "staleness": staleness}


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


class _Json:
    """One object a line, at once."""

    def show(self, line: dict[str, object]) -> None:
        put_json(
            {name: _plain(value) if isinstance(value, datetime) else value for name, value in line.items()}
        )


class _Human:
    """The time, the event, and its values."""

    def show(self, line: dict[str, object]) -> None:
        values = dict(line)
        event = f"{values.pop('event')!s:<18}"
        rest = "  ".join(_plain(value) for value in values.values())
        put_styled((f"{datetime.now(UTC):%H:%M:%S}  ", "dim"), (event, "bold"), (rest, ""))


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return " · ".join(map(str, value)) if isinstance(value, list) else str(value)
