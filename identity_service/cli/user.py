"""`identity user`: manages users, the people that sign in."""

from typing import Annotated, Final

import typer

from identity_client import AdminClient, NotFoundError
from identity_service.cli.messages import values_of
from identity_service.cli.options import AudienceOption, ScopeOption, YesOption
from identity_service.cli.output import JsonFlag, fail, show, show_table
from identity_service.cli.records import (
    DisplayName,
    Enable,
    Etag,
    GivenFields,
    Limit,
    confirm,
    first,
    read_new_password,
    texts,
)
from identity_service.cli.remote import Remote
from identity_service.domain.ids import USER_PREFIX
from identityapi.v1 import principal_pb2 as pb

app = typer.Typer(help="Manage users, the people who sign in.", no_args_is_help=True)

_COLUMNS: Final = ("user_id", "username", "audiences", "scopes", "disabled")
"""The fields that the list shows."""

UserName = Annotated[str, typer.Argument(help="The username or the user's id.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
]


def find(admin: AdminClient, name: str) -> pb.User:
    """Return the user with this username, else with this id. Raises NotFoundError."""
    try:
        return admin.find_user(name)
    except NotFoundError:
        if not name.startswith(USER_PREFIX):
            raise
    return admin.get_user(name)


@app.command("create")
def create(
    *,
    username: Annotated[str, typer.Argument(help="1 to 128 printable characters without spaces.")],
    audience: AudienceOption = None,
    scope: ScopeOption = None,
    name: DisplayName = None,
    password_stdin: PasswordStdin = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="The user cannot sign in by password until one is set.")
    ] = False,
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """Create a user."""
    password = "" if no_password else read_new_password(from_stdin=password_stdin)
    if not password and not no_password:
        fail("the password is empty; use --no-password to create a user without one")
    user = pb.User(username=username, display_name=name, audiences=texts(audience), scopes=texts(scope))
    with service.admin() as admin:
        made = admin.create_user(user, password=password)
    show({"user_id": made.user_id, "username": made.username}, as_json=as_json)


@app.command("list")
def list_users(*, limit: Limit = None, service: Remote, as_json: JsonFlag = False) -> None:
    """List users, ordered by id."""
    with service.admin() as admin:
        rows = [values_of(user, *_COLUMNS) for user in first(admin.list_users(), limit)]
    show_table(rows, as_json=as_json, empty="no users")


@app.command("show")
def show_user(*, user: UserName, service: Remote, as_json: JsonFlag = False) -> None:
    """Show one user."""
    with service.admin() as admin:
        show(values_of(find(admin, user)), as_json=as_json)


@app.command("update")
def update(
    *,
    user: UserName,
    audience: AudienceOption = None,
    scope: ScopeOption = None,
    name: DisplayName = None,
    new_username: Annotated[str | None, typer.Option("--new-username", help="New username.")] = None,
    etag: Etag = "",
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """Change the given fields. A list replaces the stored list; '' empties it."""
    given = GivenFields.of(
        username=new_username, display_name=name, audiences=texts(audience), scopes=texts(scope)
    )
    given.require("--scope")
    with service.admin() as admin:
        wanted = pb.User(user_id=find(admin, user).user_id, etag=etag, **given.values)
        show(values_of(admin.update_user(wanted, given.names)), as_json=as_json)


@app.command("set-password")
def set_password(
    *,
    user: UserName,
    password_stdin: PasswordStdin = False,
    keep_sessions: Annotated[
        bool, typer.Option("--keep-sessions", help="Do not revoke sessions and tokens.")
    ] = False,
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """Set a user's password, and revoke all sessions and tokens of the user at once."""
    password = read_new_password(from_stdin=password_stdin)
    with service.admin() as admin:
        admin.set_password(find(admin, user).user_id, password, revoke=not keep_sessions)
    show({"user": user, "revoked": not keep_sessions}, as_json=as_json)


@app.command("disable")
def disable(*, user: UserName, enable: Enable = False, service: Remote, as_json: JsonFlag = False) -> None:
    """Disable a user, and revoke all sessions and tokens of the user at once."""
    with service.admin() as admin:
        wanted = pb.User(user_id=find(admin, user).user_id, disabled=not enable)
        admin.update_user(wanted, ["disabled"])
    show({"user": user, "disabled": not enable}, as_json=as_json)


@app.command("delete")
def delete(*, user: UserName, yes: YesOption = False, service: Remote, as_json: JsonFlag = False) -> None:
    """Delete a user, and revoke all sessions and tokens of the user at once."""
    confirm(f"Delete the user {user} and end their sessions?", yes=yes)
    with service.admin() as admin:
        admin.delete_user(find(admin, user).user_id)
    show({"user": user, "deleted": True}, as_json=as_json)
