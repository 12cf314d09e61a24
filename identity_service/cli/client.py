"""`identity client`: manages clients, that is services and programs through which users sign in."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from identity_service.cli.messages import values_of
from identity_service.cli.option_groups import OptionsOf
from identity_service.cli.options import AudienceOption, ScopeOption, YesOption
from identity_service.cli.output import JsonFlag, fail, say, show, show_table
from identity_service.cli.records import (
    DisplayName,
    Enable,
    Etag,
    GivenFields,
    Limit,
    confirm,
    first,
    read_text,
    seconds,
    texts,
)
from identity_service.cli.remote import Remote
from identity_service.domain.principals import Grant, OnReuse
from identityapi.v1 import principal_pb2 as pb

app = typer.Typer(help="Manage clients: services and programs that get tokens.", no_args_is_help=True)

_COLUMNS: Final = ("client_id", "grants", "audiences", "scopes", "disabled")
"""The fields that the list shows."""

ClientId = Annotated[str, typer.Argument(help="The client's id.")]


def _given(
    *,
    audience: AudienceOption = None,
    scope: ScopeOption = None,
    name: DisplayName = None,
    grant: Annotated[
        list[Grant] | None, typer.Option(help="Grant that the client may use. Repeatable.")
    ] = None,
    certificate: Annotated[
        list[str] | None,
        typer.Option(help="Its certificate: spiffe://…, dns:name or sha256:hex. Repeatable."),
    ] = None,
    public_key: Annotated[
        list[Path] | None,
        typer.Option(help="File with its public JWK or JWK Set. Repeatable.", dir_okay=False),
    ] = None,
    exchange_audience: Annotated[
        list[str] | None, typer.Option(help="Audience of tokens that it may exchange; * = any. Repeatable.")
    ] = None,
    encryption_key: Annotated[
        str | None, typer.Option(help="File with the public JWK that tokens for it are encrypted to.")
    ] = None,
    require_binding: Annotated[
        bool | None,
        typer.Option(
            "--require-binding/--no-require-binding",
            help="Require a certificate or a DPoP proof, and bind its tokens to it.",
        ),
    ] = None,
    max_lifetime: Annotated[
        int | None,
        typer.Option(
            min=0, help="Maximum lifetime of its access tokens, in seconds; 0 = the service's own maximum."
        ),
    ] = None,
    on_reuse: Annotated[
        OnReuse | None,
        typer.Option(help="Reaction to a reused refresh token, if the client authenticated."),
    ] = None,
) -> GivenFields:
    """Return the fields that these options set."""
    keys = None if public_key is None else [key for path in public_key for key in _keys(path)]
    return GivenFields.of(
        display_name=name,
        grants=grant and [pb.Grant.Value(f"GRANT_{each.upper()}") for each in grant],
        audiences=texts(audience),
        scopes=texts(scope),
        certificates=texts(certificate),
        public_keys=keys,
        exchange_audiences=texts(exchange_audience),
        encryption_key=_encryption_key(encryption_key),
        require_binding=require_binding,
        on_reuse=on_reuse and pb.OnReuse.Value(f"ON_REUSE_{on_reuse.upper()}"),
        max_lifetime=seconds(max_lifetime),
    )


Given = Annotated[GivenFields, OptionsOf(_given)]


@app.command("create")
def create(
    *,
    client_id: ClientId,
    public: Annotated[
        bool,
        typer.Option(
            "--public",
            help="Public client, which signs users in: no secret; grants password and refresh_token.",
        ),
    ] = False,
    no_secret: Annotated[
        bool,
        typer.Option(
            "--no-secret",
            help="Create no secret: the client authenticates by certificate, key or trusted issuer.",
        ),
    ] = False,
    given: Given,
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """Create a client. Its secret is printed once; the service stores only a hash."""
    usual = [pb.GRANT_PASSWORD, pb.GRANT_REFRESH_TOKEN] if public else [pb.GRANT_CLIENT_CREDENTIALS]
    wanted = pb.Client(**{"client_id": client_id, "grants": usual, **given.values})
    with service.admin() as admin:
        made = admin.create_client(wanted, no_secret=no_secret or public)
    _show_secret(client_id, made.client_secret, as_json=as_json)


@app.command("list")
def list_clients(*, limit: Limit = None, service: Remote, as_json: JsonFlag = False) -> None:
    """List clients, ordered by id."""
    with service.admin() as admin:
        rows = [values_of(client, *_COLUMNS) for client in first(admin.list_clients(), limit)]
    show_table(rows, as_json=as_json, empty="no clients")


@app.command("show")
def show_client(*, client_id: ClientId, service: Remote, as_json: JsonFlag = False) -> None:
    """Show one client."""
    with service.admin() as admin:
        show(_values(admin.get_client(client_id)), as_json=as_json)


@app.command("update")
def update(
    *, client_id: ClientId, given: Given, etag: Etag = "", service: Remote, as_json: JsonFlag = False
) -> None:
    """Change the given fields. A list replaces the stored list; '' empties it."""
    given.require("--scope")
    with service.admin() as admin:
        wanted = pb.Client(client_id=client_id, etag=etag, **given.values)
        show(_values(admin.update_client(wanted, given.names)), as_json=as_json)


@app.command("rotate-secret")
def rotate_secret(
    *,
    client_id: ClientId,
    overlap: Annotated[int, typer.Option(help="Seconds for which the old secrets keep working.", min=0)] = 0,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Also revoke all tokens issued to it or through it.")
    ] = False,
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """Create a new secret for a client, and print it once."""
    with service.admin() as admin:
        made = admin.rotate_client_secret(client_id, overlap=timedelta(seconds=overlap), revoke=revoke)
    _show_secret(client_id, made.client_secret, as_json=as_json)


@app.command("disable")
def disable(
    *, client_id: ClientId, enable: Enable = False, service: Remote, as_json: JsonFlag = False
) -> None:
    """Disable a client, and revoke all tokens issued to it or through it, at once."""
    with service.admin() as admin:
        admin.update_client(pb.Client(client_id=client_id, disabled=not enable), ["disabled"])
    show({"client_id": client_id, "disabled": not enable}, as_json=as_json)


@app.command("delete")
def delete(
    *, client_id: ClientId, yes: YesOption = False, service: Remote, as_json: JsonFlag = False
) -> None:
    """Delete a client, and revoke all tokens issued to it or through it, at once."""
    confirm(f"Delete the client {client_id} and revoke its tokens?", yes=yes)
    with service.admin() as admin:
        admin.delete_client(client_id)
    show({"client_id": client_id, "deleted": True}, as_json=as_json)


def _keys(path: Path) -> list[str]:
    """Return the keys of a file, which holds a JWK or a JWK Set, each as JSON."""
    try:
        value = json.loads(read_text(path))
    except ValueError:
        fail(f"{path}: is not JSON")
    keys = value["keys"] if isinstance(value, dict) and isinstance(value.get("keys"), list) else [value]
    return [json.dumps(key, separators=(",", ":")) for key in keys]


def _encryption_key(path: str | None) -> str | None:
    """Return the only key of a file as JSON; return '' (remove the key) and None (no change) as such."""
    if not path:
        return path
    keys = _keys(Path(path))
    if len(keys) != 1:
        fail(f"{path}: holds {len(keys)} keys; give a file with the key to encrypt to alone")
    return keys[0]


def _values(client: pb.Client) -> dict[str, Any]:
    encryption_key = client.encryption_key
    return values_of(client) | {
        "secrets": len(client.secrets),
        "public_keys": [json.loads(key) for key in client.public_keys],
        "encryption_key": json.loads(encryption_key) if encryption_key else None,
    }


def _show_secret(client_id: str, secret: str, *, as_json: bool) -> None:
    show({"client_id": client_id, **({"client_secret": secret} if secret else {})}, as_json=as_json)
    if secret:
        say("Keep the secret: it is not shown again.")
