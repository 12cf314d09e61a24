"""`identity audit`: lists stored audit events, and follows new ones."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from pydantic import TypeAdapter, ValidationError

from identity_service.cli.following import follow
from identity_service.cli.messages import values_of
from identity_service.cli.output import JsonFlag, fail, put, put_json, say, show_table
from identity_service.cli.records import first
from identity_service.cli.remote import Remote
from identity_service.config.values import Duration
from identity_service.domain.audit import AuditKind, AuditType

app = typer.Typer(
    help="Show audit events: the actor, the action, its target, and the peer address.", no_args_is_help=True
)

_NOT_PAIRS: Final = ("event_id", "time", "type", "details")
"""Fields that a text line does not show as `name=value`: it begins with time and type, omits the id, and
shows each of the details as a pair of its own."""

Types = Annotated[
    list[AuditType] | None,
    typer.Option(
        "--type", metavar="TYPE", help="Only events of this type, e.g. session_revoked. Repeatable."
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        help="Only events since this time, e.g. 2026-05-06T07:08:09Z, or this long ago, e.g. 15m or 7d."
    ),
]


@app.command("list")
def list_events(
    *,
    principal: Annotated[
        str, typer.Option(help="Only events with this actor, subject, client or target.")
    ] = "",
    type_: Types = None,
    since: Since = None,
    until: Annotated[
        str | None, typer.Option(help="Only events before this time; written as for --since.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many events.")] = 100,
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """List audit events, the newest first."""
    start, end = _time("--since", since), _time("--until", until)
    with service.admin() as admin:
        found = admin.list_audit_events(
            principal=principal, types=type_ or (), start_time=start, end_time=end
        )
        rows = [values_of(event) for event in first(found, limit)]
    if not rows and (traffic := [each for each in type_ or () if each.kind is AuditKind.TRAFFIC]):
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
def tail(
    *,
    resume_after: Annotated[
        str,
        typer.Option(
            "--resume-after", help="The event_id of the last event seen: show the events after it first."
        ),
    ] = "",
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """Show audit events as they happen, one per line, until Ctrl-C.

    Traffic events, e.g. token_issued, are shown only if the service runs with audit_traffic = "store".
    """
    with service.admin() as admin:
        try:
            for event in follow(admin.tail_audit_events, resume_after, lambda event: event.event_id):
                _print(values_of(event), as_json=as_json)
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
        fail(f"{option}: must be a time such as 2026-05-06T07:08:09Z, or a duration until now such as 15m")
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
