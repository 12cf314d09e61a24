"""`identity session`: lists and ends sessions: the caller's own, or, with scope identity.admin, any."""

from typing import Annotated, Final

import typer

from identity_client import AdminClient
from identity_service.cli.messages import values_of
from identity_service.cli.output import JsonFlag, fail, show, show_table
from identity_service.cli.records import Limit, first
from identity_service.cli.remote import Remote
from identity_service.cli.user import find

app = typer.Typer(help="Manage live sessions, that is sign-ins.", no_args_is_help=True)

_COLUMNS: Final = (
    *("session_id", "subject", "client_id", "device", "peer"),
    *("auth_time", "refresh_time", "expire_time", "current"),
)
"""The fields that the list shows."""

OfUser = Annotated[str | None, typer.Option("--user", help="Username or user id. Default: yourself.")]


@app.command("list")
def list_sessions(
    *,
    user: OfUser = None,
    client: Annotated[str | None, typer.Option("--client", help="Only sessions through this client.")] = None,
    limit: Limit = None,
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """List live sessions, the newest sign-in first: your own, or others' with --user or --client."""
    if user and client:
        fail("give only one of --user and --client")
    with service.admin() as admin:
        found = admin.list_sessions(subject=_subject(admin, user), client_id=client or "")
        rows = [values_of(session, *_COLUMNS) for session in first(found, limit)]
    show_table(rows, as_json=as_json, empty="no sessions")


@app.command("revoke")
def revoke(
    *,
    session_id: Annotated[str | None, typer.Argument(help="The session to end.")] = None,
    user: OfUser = None,
    every: Annotated[
        bool, typer.Option("--all", help="End all sessions: your own, or those of --user.")
    ] = False,
    all_but: Annotated[
        str | None, typer.Option("--all-but", metavar="SESSION_ID", help="End all sessions but this one.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Reason, recorded in the audit events.")] = "",
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """End one session, or all sessions of a user, or all but one. Their tokens are refused at once."""
    if sum(map(bool, (session_id, every, all_but))) != 1 or (session_id and user):
        fail("give a session id, --all or --all-but")
    with service.admin() as admin:
        if session_id:
            ended = admin.revoke_session(session_id, reason=reason)
        else:
            subject = _subject(admin, user)
            ended = admin.revoke_sessions(subject=subject, keep=all_but or "", reason=reason)
    show({"count": ended.count, "revision": ended.revision}, as_json=as_json)


def _subject(admin: AdminClient, user: str | None) -> str:
    return find(admin, user).user_id if user else ""
