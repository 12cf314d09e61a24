"""`identity user`: manages users, the people that sign in."""

from typing import Annotated, Any

import typer

from identity_client import AdminClient, NotFoundError
from identity_service.cli.options import AudienceOption, ScopeOption, YesOption
from identity_service.cli.output import Exit, JsonFlag, fail, show, show_table
from identity_service.cli.records import (
    DisplayName,
    Enable,
    Etag,
    Limit,
    confirm,
    first,
    read_new_password,
    texts,
    time_of,
)
from identity_service.cli.remote import Service, remote
from identity_service.domain.ids import USER_PREFIX
from identityapi.v1 import principal_pb2 as pb

app = typer.Typer(help="Manage users, the people who sign in.", no_args_is_help=True)

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
@remote
def create(
    service: Service,
    username: Annotated[str, typer.Argument(help="1 to 128 printable characters without spaces.")],
    audience: AudienceOption = None,
    scope: ScopeOption = None,
    name: DisplayName = None,
    password_stdin: PasswordStdin = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="The user cannot sign in by password until one is set.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Create a user."""
    password = "" if no_password else read_new_password(from_stdin=password_stdin)
    if not password and not no_password:
        fail(
            "the password is empty; use --no-password to create a user without one",
            Exit.USAGE,
            as_json=as_json,
        )
    user = pb.User(username=username, display_name=name or "", audiences=texts(audience), scopes=texts(scope))
    with service.admin() as admin:
        made = admin.create_user(user, password=password)
    show({"user_id": made.user_id, "username": made.username}, as_json=as_json)


@app.command("list")
@remote
def list_users(service: Service, limit: Limit = None, as_json: JsonFlag = False) -> None:
    """List users, ordered by id."""
    with service.admin() as admin:
        rows = [_row(user) for user in first(admin.list_users(), limit)]
    show_table(rows, as_json=as_json, empty="no users")


@app.command("show")
@remote
def show_user(service: Service, user: UserName, as_json: JsonFlag = False) -> None:
    """Show one user."""
    with service.admin() as admin:
        show(_values(find(admin, user)), as_json=as_json)


@app.command("update")
@remote
def update(
    service: Service,
    user: UserName,
    audience: AudienceOption = None,
    scope: ScopeOption = None,
    name: DisplayName = None,
    new_username: Annotated[str | None, typer.Option("--new-username", help="New username.")] = None,
    etag: Etag = "",
    as_json: JsonFlag = False,
) -> None:
    """Change the given fields. A list replaces the stored list; '' empties it."""
    given: dict[str, Any] = {
        "username": new_username,
        "display_name": name,
        "audiences": None if audience is None else texts(audience),
        "scopes": None if scope is None else texts(scope),
    }
    stated = {field: value for field, value in given.items() if value is not None}
    if not stated:
        fail("give at least one option that changes a field, such as --scope", Exit.USAGE, as_json=as_json)
    with service.admin() as admin:
        wanted = pb.User(user_id=find(admin, user).user_id, etag=etag, **stated)
        show(_values(admin.update_user(wanted, stated)), as_json=as_json)


@app.command("set-password")
@remote
def set_password(
    service: Service,
    user: UserName,
    password_stdin: PasswordStdin = False,
    keep_sessions: Annotated[
        bool, typer.Option("--keep-sessions", help="Do not revoke sessions and tokens.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Set a user's password, and revoke all sessions and tokens of the user at once."""
    password = read_new_password(from_stdin=password_stdin)
    with service.admin() as admin:
        admin.set_password(find(admin, user).user_id, password, revoke=not keep_sessions)
    show({"user": user, "revoked": not keep_sessions}, as_json=as_json)


@app.command("disable")
@remote
def disable(service: Service, user: UserName, enable: Enable = False, as_json: JsonFlag = False) -> None:
    """Disable a user, and revoke all sessions and tokens of the user at once."""
    with service.admin() as admin:
        wanted = pb.User(user_id=find(admin, user).user_id, disabled=not enable)
        admin.update_user(wanted, ["disabled"])
    show({"user": user, "disabled": not enable}, as_json=as_json)


@app.command("delete")
@remote
def delete(service: Service, user: UserName, yes: YesOption = False, as_json: JsonFlag = False) -> None:
    """Delete a user, and revoke all sessions and tokens of the user at once."""
    confirm(f"Delete the user {user} and end their sessions?", yes=yes)
    with service.admin() as admin:
        admin.delete_user(find(admin, user).user_id)
    show({"user": user, "deleted": True}, as_json=as_json)


def _row(user: pb.User) -> dict[str, object]:
    return {
        "user_id": user.user_id,
        "username": user.username,
        "audiences": list(user.audiences),
        "scopes": list(user.scopes),
        "disabled": user.disabled,
    }


def _values(user: pb.User) -> dict[str, object]:
    return {
        **_row(user),
        "display_name": user.display_name,
        "has_password": user.has_password,
        "create_time": time_of(user.create_time),
        "etag": user.etag,
    }
