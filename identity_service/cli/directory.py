"""`identity client` and `identity user`: the directory, for now on the store directly."""

import sys
from datetime import timedelta
from typing import Annotated

import typer

from identity_service import bootstrap
from identity_service.cli.options import (
    AudienceOption,
    ConfigOption,
    ScopeOption,
    StoreOption,
    YesOption,
    settings_for_office,
)
from identity_service.cli.output import Exit, JsonFlag, fail, failures, say, show, show_table
from identity_service.domain.principals import Client, Grant, User
from identity_service.domain.secret import Secret
from identity_service.domain.store import Versioned
from identity_service.services.admin import NewClient, NewUser

client_app = typer.Typer(help="Services and programs that get tokens.", no_args_is_help=True)
user_app = typer.Typer(help="People who sign in.", no_args_is_help=True)

ClientId = Annotated[str, typer.Argument(help="The client's id.")]
UserName = Annotated[str, typer.Argument(help="The username or the user's id.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
]
Enable = Annotated[bool, typer.Option("--enable", help="Let it in again.")]
DisplayName = Annotated[str, typer.Option("--name", help="A name for people.")]


@client_app.command("create")
def create_client(
    client_id: ClientId,
    audience: AudienceOption = None,
    scope: ScopeOption = None,
    name: DisplayName = "",
    grant: Annotated[
        list[Grant] | None, typer.Option("--grant", help="Default: client_credentials; public: password.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Without a secret: signs people in.")] = False,
    max_lifetime: Annotated[int | None, typer.Option(help="Of its access tokens, in seconds.", min=1)] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a client. Its secret is printed once and kept only as a hash."""
    usual = (Grant.PASSWORD, Grant.REFRESH_TOKEN) if public else (Grant.CLIENT_CREDENTIALS,)
    new = NewClient(
        client_id=client_id,
        display_name=name,
        grants=grant or usual,
        audiences=audience or (),
        scopes=scope or (),
        public=public,
        max_lifetime=timedelta(seconds=max_lifetime) if max_lifetime is not None else None,
    )
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        client, secret = office.administrator.create_client(new)
        shown = {"client_secret": secret.reveal()} if secret is not None else {}
        show({"client_id": client.client_id, **shown}, as_json=as_json)
        if shown:
            say("Keep the secret: it is not shown again.")


@client_app.command("list")
def list_clients(
    after: Annotated[str, typer.Option(help="Begin behind this id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List clients by id."""
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        found = office.administrator.clients(after=after, limit=limit)
        show_table([_client_row(f.record) for f in found], as_json=as_json, empty="no clients")


@client_app.command("show")
def show_client(
    client_id: ClientId, config: ConfigOption = None, store: StoreOption = None, as_json: JsonFlag = False
) -> None:
    """Show one client."""
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        found = office.administrator.client(client_id)
        client = found.record
        show(
            {
                **_client_row(client),
                "display_name": client.display_name,
                "secrets": len(client.secrets),
                "max_lifetime": client.max_lifetime and client.max_lifetime.total_seconds(),
                "on_reuse": client.on_reuse,
                "create_time": client.create_time,
                "etag": found.revision,
            },
            as_json=as_json,
        )


@client_app.command("rotate-secret")
def rotate_secret(
    client_id: ClientId,
    overlap: Annotated[int, typer.Option(help="Seconds that the old secret goes on working.", min=0)] = 0,
    revoke: Annotated[bool, typer.Option("--revoke", help="Revoke all that it was issued.")] = False,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Give a client a new secret, printed once."""
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        secret = office.administrator.rotate_secret(
            client_id, overlap=timedelta(seconds=overlap), revoke=revoke
        )
        show({"client_id": client_id, "client_secret": secret.reveal()}, as_json=as_json)


@client_app.command("disable")
def disable_client(
    client_id: ClientId,
    enable: Enable = False,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Refuse a client and all that was issued to it or through it, at once."""
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        office.administrator.disable_client(client_id, disabled=not enable)
        show({"client_id": client_id, "disabled": not enable}, as_json=as_json)


@client_app.command("delete")
def delete_client(
    client_id: ClientId,
    yes: YesOption = False,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Delete a client and revoke all that was issued to it or through it."""
    _confirm(f"Delete the client {client_id} and revoke its tokens?", yes=yes)
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        office.administrator.delete_client(client_id)
        show({"client_id": client_id, "deleted": True}, as_json=as_json)


@user_app.command("create")
def create_user(
    username: Annotated[str, typer.Argument(help="1 to 128 printable characters without spaces.")],
    audience: AudienceOption = None,
    scope: ScopeOption = None,
    name: DisplayName = "",
    password_stdin: PasswordStdin = False,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a user."""
    new = NewUser(
        username=username,
        password=_read_password(from_stdin=password_stdin),
        display_name=name,
        audiences=audience or (),
        scopes=scope or (),
    )
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        user = office.administrator.create_user(new)
        show({"user_id": user.user_id, "username": user.username}, as_json=as_json)


@user_app.command("list")
def list_users(
    after: Annotated[str, typer.Option(help="Begin behind this id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List users by id."""
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        found = office.administrator.users(after=after, limit=limit)
        show_table([_user_row(f) for f in found], as_json=as_json, empty="no users")


@user_app.command("show")
def show_user(
    user: UserName, config: ConfigOption = None, store: StoreOption = None, as_json: JsonFlag = False
) -> None:
    """Show one user."""
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        found = office.administrator.user(user)
        show(
            {**_user_row(found), "display_name": found.record.display_name, "etag": found.revision},
            as_json=as_json,
        )


@user_app.command("set-password")
def set_password(
    user: UserName,
    password_stdin: PasswordStdin = False,
    keep_sessions: Annotated[bool, typer.Option("--keep-sessions", help="Revoke nothing.")] = False,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Set a user's password; all sessions and tokens of the user end at once."""
    password = _read_password(from_stdin=password_stdin)
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        office.administrator.set_password(user, password, revoke=not keep_sessions)
        show({"user": user, "revoked": not keep_sessions}, as_json=as_json)


@user_app.command("disable")
def disable_user(
    user: UserName,
    enable: Enable = False,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Refuse a user, and end all of their sessions and tokens at once."""
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        office.administrator.disable_user(user, disabled=not enable)
        show({"user": user, "disabled": not enable}, as_json=as_json)


@user_app.command("delete")
def delete_user(
    user: UserName,
    yes: YesOption = False,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Delete a user, and end all of their sessions and tokens at once."""
    _confirm(f"Delete the user {user} and end their sessions?", yes=yes)
    with failures(as_json=as_json), bootstrap.open_office(settings_for_office(config, store)) as office:
        office.administrator.delete_user(user)
        show({"user": user, "deleted": True}, as_json=as_json)


def _client_row(client: Client) -> dict[str, object]:
    return {
        "client_id": client.client_id,
        "grants": sorted(client.grants),
        "audiences": sorted(client.audiences),
        "scopes": sorted(client.scopes),
        "disabled": client.disabled,
    }


def _user_row(found: Versioned[User]) -> dict[str, object]:
    user = found.record
    return {
        "user_id": user.user_id,
        "username": user.username,
        "audiences": sorted(user.audiences),
        "scopes": sorted(user.scopes),
        "disabled": user.disabled,
    }


def _read_password(*, from_stdin: bool) -> Secret:
    if from_stdin:
        return Secret(sys.stdin.readline().rstrip("\r\n"))
    return Secret(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def _confirm(question: str, *, yes: bool) -> None:
    if not yes and not typer.confirm(question, err=True):
        fail("nothing was changed", Exit.FAILED)
