"""`identity client`: manages clients, that is services and programs through which users sign in."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from identity_service.cli.options import AudienceOption, ScopeOption, YesOption
from identity_service.cli.output import Exit, JsonFlag, fail, say, show, show_table
from identity_service.cli.records import (
    DisplayName,
    Enable,
    Etag,
    Limit,
    confirm,
    first,
    read_text,
    texts,
    time_of,
)
from identity_service.cli.remote import Service, remote
from identity_service.domain.principals import Grant, OnReuse
from identityapi.v1 import principal_pb2 as pb

app = typer.Typer(help="Manage clients: services and programs that get tokens.", no_args_is_help=True)

ClientId = Annotated[str, typer.Argument(help="The client's id.")]
Grants = Annotated[
    list[Grant] | None, typer.Option("--grant", help="Grant that the client may use. Repeatable.")
]
MaxLifetime = Annotated[
    int | None,
    typer.Option("--max-lifetime", min=1, help="Maximum lifetime of its access tokens, in seconds."),
]
Reuse = Annotated[
    OnReuse | None,
    typer.Option("--on-reuse", help="Reaction to a reused refresh token, if the client authenticated."),
]
Certificates = Annotated[
    list[str] | None,
    typer.Option("--certificate", help="Its certificate: spiffe://…, dns:name or sha256:hex. Repeatable."),
]
PublicKeys = Annotated[
    list[Path] | None,
    typer.Option("--public-key", help="File with its public JWK or JWK Set. Repeatable.", dir_okay=False),
]
ExchangeAudiences = Annotated[
    list[str] | None,
    typer.Option("--exchange-audience", help="Audience of tokens that it may exchange; * = any. Repeatable."),
]
EncryptionKey = Annotated[
    str | None,
    typer.Option("--encryption-key", help="File with the public JWK that tokens for it are encrypted to."),
]
RequireBinding = Annotated[
    bool | None,
    typer.Option(
        "--require-binding/--no-require-binding",
        help="Require a certificate or a DPoP proof, and bind its tokens to it.",
    ),
]


@app.command("create")
@remote
def create(
    service: Service,
    client_id: ClientId,
    audience: AudienceOption = None,
    scope: ScopeOption = None,
    name: DisplayName = None,
    grant: Grants = None,
    public: Annotated[
        bool,
        typer.Option("--public", help="Only signs users in: no secret; grants password and refresh_token."),
    ] = False,
    no_secret: Annotated[
        bool, typer.Option("--no-secret", help="It authenticates by certificate, key or trusted issuer.")
    ] = False,
    certificate: Certificates = None,
    public_key: PublicKeys = None,
    exchange_audience: ExchangeAudiences = None,
    encryption_key: EncryptionKey = None,
    require_binding: RequireBinding = None,
    max_lifetime: MaxLifetime = None,
    on_reuse: Reuse = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a client. Its secret is printed once; the service stores only a hash."""
    usual = [Grant.PASSWORD, Grant.REFRESH_TOKEN] if public else [Grant.CLIENT_CREDENTIALS]
    wanted, _ = _message(
        client_id,
        audience=audience,
        scope=scope,
        name=name,
        grant=grant or usual,
        certificate=certificate,
        public_key=public_key,
        exchange_audience=exchange_audience,
        encryption_key=encryption_key,
        require_binding=require_binding,
        max_lifetime=max_lifetime,
        on_reuse=on_reuse,
    )
    with service.admin() as admin:
        made = admin.create_client(wanted, no_secret=no_secret or public)
    _show_secret(client_id, made.client_secret, as_json=as_json)


@app.command("list")
@remote
def list_clients(service: Service, limit: Limit = None, as_json: JsonFlag = False) -> None:
    """List clients, ordered by id."""
    with service.admin() as admin:
        rows = [_row(client) for client in first(admin.list_clients(), limit)]
    show_table(rows, as_json=as_json, empty="no clients")


@app.command("show")
@remote
def show_client(service: Service, client_id: ClientId, as_json: JsonFlag = False) -> None:
    """Show one client."""
    with service.admin() as admin:
        show(_values(admin.get_client(client_id)), as_json=as_json)


@app.command("update")
@remote
def update(
    service: Service,
    client_id: ClientId,
    audience: AudienceOption = None,
    scope: ScopeOption = None,
    name: DisplayName = None,
    grant: Grants = None,
    certificate: Certificates = None,
    public_key: PublicKeys = None,
    exchange_audience: ExchangeAudiences = None,
    encryption_key: EncryptionKey = None,
    require_binding: RequireBinding = None,
    max_lifetime: Annotated[
        int | None,
        typer.Option(
            "--max-lifetime",
            min=0,
            help="Maximum lifetime of its access tokens, in seconds; 0 = the service's own maximum.",
        ),
    ] = None,
    on_reuse: Reuse = None,
    etag: Etag = "",
    as_json: JsonFlag = False,
) -> None:
    """Change the given fields. A list replaces the stored list; '' empties it."""
    wanted, fields = _message(
        client_id,
        audience=audience,
        scope=scope,
        name=name,
        grant=grant,
        certificate=certificate,
        public_key=public_key,
        exchange_audience=exchange_audience,
        encryption_key=encryption_key,
        require_binding=require_binding,
        max_lifetime=max_lifetime,
        on_reuse=on_reuse,
    )
    if not fields:
        fail("give at least one option that changes a field, such as --scope", Exit.USAGE, as_json=as_json)
    wanted.etag = etag
    with service.admin() as admin:
        show(_values(admin.update_client(wanted, fields)), as_json=as_json)


@app.command("rotate-secret")
@remote
def rotate_secret(
    service: Service,
    client_id: ClientId,
    overlap: Annotated[int, typer.Option(help="Seconds for which the old secrets keep working.", min=0)] = 0,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Also revoke all tokens issued to it or through it.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Create a new secret for a client, and print it once."""
    with service.admin() as admin:
        made = admin.rotate_client_secret(client_id, overlap=timedelta(seconds=overlap), revoke=revoke)
    _show_secret(client_id, made.client_secret, as_json=as_json)


@app.command("disable")
@remote
def disable(service: Service, client_id: ClientId, enable: Enable = False, as_json: JsonFlag = False) -> None:
    """Disable a client, and revoke all tokens issued to it or through it, at once."""
    with service.admin() as admin:
        admin.update_client(pb.Client(client_id=client_id, disabled=not enable), ["disabled"])
    show({"client_id": client_id, "disabled": not enable}, as_json=as_json)


@app.command("delete")
@remote
def delete(service: Service, client_id: ClientId, yes: YesOption = False, as_json: JsonFlag = False) -> None:
    """Delete a client, and revoke all tokens issued to it or through it, at once."""
    confirm(f"Delete the client {client_id} and revoke its tokens?", yes=yes)
    with service.admin() as admin:
        admin.delete_client(client_id)
    show({"client_id": client_id, "deleted": True}, as_json=as_json)


def _message(
    client_id: str,
    *,
    audience: Sequence[str] | None,
    scope: Sequence[str] | None,
    name: str | None,
    grant: Sequence[Grant] | None,
    certificate: Sequence[str] | None,
    public_key: Sequence[Path] | None,
    exchange_audience: Sequence[str] | None,
    encryption_key: str | None,
    require_binding: bool | None,
    max_lifetime: int | None,
    on_reuse: OnReuse | None,
) -> tuple[pb.Client, list[str]]:
    """Return a client with the fields that the options set, and the names of those fields."""
    given: dict[str, Any] = {
        "display_name": name,
        "grants": [pb.Grant.Value(f"GRANT_{each.upper()}") for each in grant] if grant is not None else None,
        "audiences": _list(audience),
        "scopes": _list(scope),
        "certificates": _list(certificate),
        "public_keys": [key for path in public_key for key in _keys(path)]
        if public_key is not None
        else None,
        "exchange_audiences": _list(exchange_audience),
        "encryption_key": _encryption_key(encryption_key),
        "require_binding": require_binding,
        "on_reuse": pb.OnReuse.Value(f"ON_REUSE_{on_reuse.upper()}") if on_reuse is not None else None,
    }
    stated = {field: value for field, value in given.items() if value is not None}
    message = pb.Client(client_id=client_id, **stated)
    if max_lifetime:
        message.max_lifetime.FromSeconds(max_lifetime)
    return message, [*stated, *(["max_lifetime"] if max_lifetime is not None else [])]


def _list(given: Sequence[str] | None) -> list[str] | None:
    return None if given is None else texts(given)


def _keys(path: Path) -> list[str]:
    """Return the keys of a file, which holds a JWK or a JWK Set, each as JSON."""
    try:
        value = json.loads(read_text(path))
    except ValueError:
        fail(f"{path}: is not JSON", Exit.USAGE)
    keys = value["keys"] if isinstance(value, dict) and isinstance(value.get("keys"), list) else [value]
    return [json.dumps(key, separators=(",", ":")) for key in keys]


def _encryption_key(path: str | None) -> str | None:
    """Return the only key of a file as JSON; return '' (remove the key) and None (no change) as such."""
    if not path:
        return path
    keys = _keys(Path(path))
    if len(keys) != 1:
        fail(f"{path}: holds {len(keys)} keys; give a file with the key to encrypt to alone", Exit.USAGE)
    return keys[0]


def _row(client: pb.Client) -> dict[str, object]:
    return {
        "client_id": client.client_id,
        "grants": sorted(pb.Grant.Name(grant).removeprefix("GRANT_").lower() for grant in client.grants),
        "audiences": list(client.audiences),
        "scopes": list(client.scopes),
        "disabled": client.disabled,
    }


def _values(client: pb.Client) -> dict[str, object]:
    lifetime = client.max_lifetime.ToTimedelta().total_seconds() if client.HasField("max_lifetime") else None
    return {
        **_row(client),
        "display_name": client.display_name,
        "secrets": len(client.secrets),
        "certificates": list(client.certificates),
        "public_keys": [json.loads(key) for key in client.public_keys],
        "exchange_audiences": list(client.exchange_audiences),
        "encryption_key": json.loads(client.encryption_key) if client.encryption_key else None,
        "require_binding": client.require_binding,
        "max_lifetime": lifetime,
        "on_reuse": pb.OnReuse.Name(client.on_reuse).removeprefix("ON_REUSE_").lower(),
        "create_time": time_of(client.create_time),
        "etag": client.etag,
    }


def _show_secret(client_id: str, secret: str, *, as_json: bool) -> None:
    show({"client_id": client_id, **({"client_secret": secret} if secret else {})}, as_json=as_json)
    if secret:
        say("Keep the secret: it is not shown again.")
