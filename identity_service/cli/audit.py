"""`identity audit`: lists stored audit events, and follows new ones."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from pydantic import TypeAdapter, ValidationError

from identity_client.values import moment
from identity_service.cli.following import follow
from identity_service.cli.output import Exit, JsonFlag, fail, put, put_json, say, show_table
from identity_service.cli.records import first
from identity_service.cli.remote import Service, remote
from identity_service.config.values import Duration
from identity_service.domain.audit import AuditKind, AuditType
from identityapi.v1 import audit_pb2 as pb

app = typer.Typer(
    help="Show audit events: the actor, the action, its target, and the peer address.", no_args_is_help=True
)

_NOT_PAIRS: Final = ("event_id", "time", "type", "details")
"""Fields that a text line does not show as `name=value`: it begins with time and type, omits the id, and
shows each of the details as a pair of its own."""

_TYPES: Final = tuple(sorted(AuditType))
_TRAFFIC: Final = frozenset(type_.value for type_ in AuditType if type_.kind is AuditKind.TRAFFIC)

Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="Only events of this type, e.g. session_revoked. Repeatable."),
]
Since = Annotated[
    str | None,
    typer.Option(
        help="Only events since this time, e.g. 2026-05-06T07:08:09Z, or this long ago, e.g. 15m or 7d."
    ),
]


@app.command("list")
@remote
def list_events(
    service: Service,
    principal: Annotated[
        str, typer.Option(help="Only events with this actor, subject, client or target.")
    ] = "",
    type_: Types = None,
    since: Since = None,
    until: Annotated[
        str | None, typer.Option(help="Only events before this time; written as for --since.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many events.")] = 100,
    as_json: JsonFlag = False,
) -> None:
    """List audit events, the newest first."""
    _check_types(type_ or ())
    start, end = _time("--since", since), _time("--until", until)
    with service.admin() as admin:
        found = admin.list_audit_events(
            principal=principal, types=type_ or (), start_time=start, end_time=end
        )
        rows = [_row(event) for event in first(found, limit)]
    if not rows and (traffic := [name for name in type_ or () if name in _TRAFFIC]):
        say(
            f"{', '.join(traffic)}: traffic events are stored only while the service runs with "
            'audit_traffic = "store"; the others are in its log, see docs/audit.md'
        )
    if as_json or not rows:
        show_table(rows, as_json=as_json, empty="no events")
    else:
        for row in rows:
            _print(row, as_json=False)


@app.command("tail")
@remote
def tail(
    service: Service,
    resume_after: Annotated[
        str,
        typer.Option(
            "--resume-after", help="The event_id of the last event seen: show the events after it first."
        ),
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Show audit events as they happen, one per line, until Ctrl-C.

    Traffic events, e.g. token_issued, are shown only if the service runs with audit_traffic = "store".
    """
    with service.admin() as admin:
        try:
            for event in follow(admin.tail_audit_events, resume_after, lambda event: event.event_id):
                _print(_row(event), as_json=as_json)
        except KeyboardInterrupt:
            pass


def _print(row: dict[str, Any], *, as_json: bool) -> None:
    """Print an event on one line and flush it."""
    if as_json:
        put_json(row)
    else:
        said = {name: value for name, value in row.items() if value and name not in _NOT_PAIRS} | row[
            "details"
        ]
        pairs = "  ".join(f"{name}={_delimited(value)}" for name, value in said.items())
        put(f"{row['time']:%Y-%m-%d %H:%M:%S}  {row['type']:<22}  {pairs}")


def _delimited(value: str) -> str:
    """Quote a value that could be read as several pairs, such as `lost  actor=root`."""
    return json.dumps(value, ensure_ascii=False) if any(c.isspace() or c in '"=' for c in value) else value


def _row(event: pb.AuditEvent) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "time": moment(event.time),
        "type": event.type,
        "outcome": pb.AuditOutcome.Name(event.outcome).removeprefix("AUDIT_OUTCOME_").lower(),
        "actor": event.actor,
        "target": event.target,
        "peer": event.peer,
        "reason": event.reason,
        "request_id": event.request_id,
        "details": dict(event.details),
    }


def _check_types(names: Sequence[str]) -> None:
    """End the command with Exit.USAGE if a name is not an audit event type."""
    if unknown := [name for name in names if name not in _TYPES]:
        fail(
            f"--type: {unknown[0][:64]!r} is not an event type; the types are {', '.join(_TYPES)}", Exit.USAGE
        )


def _time(option: str, text: str | None) -> datetime | None:
    """Parse a time, or a duration before now. A time without a zone is UTC."""
    if text is None:
        return None
    try:
        return datetime.now(UTC) - TypeAdapter(Duration).validate_python(text)
    except ValidationError:
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        fail(
            f"{option}: must be a time such as 2026-05-06T07:08:09Z, or a duration until now such as 15m",
            Exit.USAGE,
        )
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
