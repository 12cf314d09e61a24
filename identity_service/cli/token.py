"""`identity token`: issue, verify, refresh, revoke through the gRPC API; inspect without it."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from identity_client import Rejected, TokenSet
from identity_client.assertions import SERVICE_ISSUER
from identity_client.credentials import by_password, by_secret
from identity_client.requests import issue_request
from identity_service.cli.caller import client_secret_of_environment, read_client_secret, read_password
from identity_service.cli.options import AudienceOption, ScopeOption, WantedToken
from identity_service.cli.output import Exit, JsonFlag, fail, put, say, show
from identity_service.cli.proofs import client_proof
from identity_service.cli.remote import Connected, Remote, bearer_of_environment
from identity_shared.strict import decode_base64url, parse_object

app = typer.Typer(help="Issue, verify, refresh, revoke and inspect tokens.", no_args_is_help=True)

_VERIFIED: Final = (
    *("subject", "client_id", "audiences", "scopes", "token_id", "session_id"),
    *("issue_time", "expire_time", "actors", "claims", "revision"),
)
"""The values that are shown of a valid token."""

ClientId = Annotated[
    str | None,
    typer.Option(
        "--client-id",
        envvar="IDENTITY_CLIENT_ID",
        help="Client id. Secret: IDENTITY_CLIENT_SECRET (or IDENTITY_CLIENT_SECRET_FILE), or a prompt.",
    ),
]
Certificate = Annotated[
    bool, typer.Option("--certificate", help="Authenticate by the client certificate: --cert and --key.")
]
Token = Annotated[str, typer.Argument(help="The token, or - for standard input.")]
Print = Annotated[str | None, typer.Option("--print", help="Print only this value, e.g. access_token.")]


@app.command("issue")
def issue(
    *,
    client_id: ClientId = None,
    username: Annotated[
        str | None,
        typer.Option(
            "--username",
            envvar="IDENTITY_USERNAME",
            help="Username. Password: IDENTITY_PASSWORD, or a prompt.",
        ),
    ] = None,
    wanted: WantedToken,
    device: Annotated[str, typer.Option(help="Device name, shown in the list of sessions.")] = "",
    assertion_key: Annotated[
        Path | None,
        typer.Option(help="Private key (PEM or JWK) of --client-id, in place of its secret.", dir_okay=False),
    ] = None,
    service_issuer: Annotated[
        str,
        typer.Option(
            envvar="IDENTITY_ISSUER",
            help="Issuer name of the service (its setting `issuer`), for --assertion-key.",
        ),
    ] = SERVICE_ISSUER,
    certificate: Certificate = False,
    federated_token_file: Annotated[
        Path | None,
        typer.Option(help="Authenticate by the JWT of a trusted issuer in this file.", dir_okay=False),
    ] = None,
    only: Print = None,
    service: Connected,
    as_json: JsonFlag = False,
) -> None:
    """Get tokens: for a client by secret, key, certificate or a platform's JWT; for a user by password."""
    proof = client_proof(
        client_id,
        assertion_key=assertion_key,
        service_issuer=service_issuer,
        certificate=certificate,
        federated_token_file=federated_token_file,
    )
    if proof is not None:
        credential = proof
    elif username is not None:
        secret = client_secret_of_environment() if client_id else None
        credential = by_password(username, read_password(), client_id=client_id, client_secret=secret)
    elif client_id is not None:
        credential = by_secret(client_id, read_client_secret())
    else:
        fail("name the client or the user: give --client-id or --username")
    request = issue_request(credential, device=device, **wanted)
    with service.identity() as client:
        show_tokens(client.issue(request), only, as_json=as_json)


@app.command("refresh")
def refresh(
    *,
    refresh_token: Token,
    client_id: ClientId = None,
    audience: AudienceOption = None,
    scope: ScopeOption = None,
    only: Print = None,
    service: Connected,
    as_json: JsonFlag = False,
) -> None:
    """Exchange a refresh token for new tokens."""
    secret = client_secret_of_environment() if client_id else None
    with service.identity() as client:
        tokens = client.refresh(
            read_token(refresh_token),
            client_id=client_id if secret else None,
            client_secret=secret,
            scopes=scope or (),
            audiences=audience or (),
        )
        show_tokens(tokens, only, as_json=as_json)


@app.command("verify")
def verify(
    *,
    token: Token,
    audience: Annotated[
        list[str] | None, typer.Option("--audience", "-a", help="Accepted audience. Repeatable.")
    ] = None,
    any_audience: Annotated[bool, typer.Option("--any-audience", help="Accept any audience.")] = False,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", "-s", help="Scope that the token must have. Repeatable.")
    ] = None,
    strong: Annotated[bool, typer.Option("--strong", help="First catch up with the store.")] = False,
    at_least_revision: Annotated[
        str | None, typer.Option(help="First catch up with this revision, as printed by revoke.")
    ] = None,
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """Verify an access token, and print what it contains. Exit 3 if it is not valid."""
    if not audience and not any_audience:
        fail("name the verifying service: give --audience, or --any-audience to accept any")
    with service.verifier() as client:
        outcome = client.verify(
            read_token(token),
            audiences=audience or (),
            any_audience=any_audience,
            required_scopes=scope or (),
            strong=strong,
            at_least_revision=at_least_revision,
        )
        if isinstance(outcome, Rejected):
            show({"verified": False, "reason": outcome.reason, "detail": outcome.detail}, as_json=as_json)
            raise typer.Exit(Exit.REFUSED)
        found = asdict(outcome) | {"claims": dict(outcome.claims)}
        show({"verified": True, **{name: found[name] for name in _VERIFIED}}, as_json=as_json)


@app.command("revoke")
def revoke(
    *,
    token: Annotated[str | None, typer.Argument(help="The token itself, or - for standard input.")] = None,
    token_id: Annotated[str | None, typer.Option(help="The access token with this jti.")] = None,
    session_id: Annotated[str | None, typer.Option(help="The session with this sid.")] = None,
    subject: Annotated[str | None, typer.Option(help="Every token of this principal.")] = None,
    client: Annotated[str | None, typer.Option(help="Every token of this client.")] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Every token of the whole service.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Reason, recorded in the audit event.")] = "",
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a token or, with scope identity.revoke, a session or all of a principal. Idempotent."""
    given = [t for t in (token, token_id, session_id, subject, client, everything) if t]
    if len(given) != 1:
        fail("give one target: a token, --token-id, --session-id, --subject, --client or --everything")
    if token:
        with service.identity(bearer=bearer_of_environment()) as identity:
            show({"revision": identity.revoke_token(read_token(token), reason=reason)}, as_json=as_json)
        return
    with service.revoker() as identity:
        if token_id:
            revision = identity.revoke_token_id(token_id, reason=reason)
        elif session_id:
            revision = identity.revoke_session(session_id, reason=reason)
        elif subject:
            revision = identity.revoke_subject(subject, reason=reason)
        elif client:
            revision = identity.revoke_client(client, reason=reason)
        else:
            revision = identity.revoke_everything(reason=reason)
        show({"revision": revision}, as_json=as_json)


@app.command("inspect")
def inspect(token: Token, as_json: JsonFlag = False) -> None:
    """Print the header and claims of a token, without verifying it or calling the service."""
    parts = read_token(token).split(".")
    try:
        if len(parts) != 3:
            raise ValueError("it is not a signed JWT, which has three parts")  # noqa: TRY301
        header, claims = (parse_object(decode_base64url(part)) for part in parts[:2])
    except ValueError as error:
        fail(f"the token cannot be read: {error}", Exit.FAILED)
    if as_json:
        show({"header": header, "claims": claims, "verified": False}, as_json=True)
        return
    show({**header, **_with_dates(claims)}, as_json=False)
    say("Not verified: the signature was not checked.")


def _with_dates(claims: Mapping[str, Any]) -> dict[str, object]:
    dates = ("exp", "iat", "nbf", "auth_time")
    return {
        name: f"{value} ({datetime.fromtimestamp(value, UTC).isoformat()})"
        if name in dates and isinstance(value, int) and 0 <= value < 2**37
        else value
        for name, value in claims.items()
    }


def read_token(token: str) -> str:
    """Return the token, or the first line of standard input if the token is `-`."""
    return sys.stdin.readline().strip() if token == "-" else token  # noqa: S105  # a hyphen


def show_tokens(tokens: TokenSet, only: str | None, *, as_json: bool) -> None:
    """Print all values, or only the one named `only`; end with Exit.USAGE if there is no such value."""
    values = asdict(tokens)
    if only is None:
        show(values, as_json=as_json)
    elif only in values:
        put(str(values[only] or ""))
    else:
        fail(f"--print: there is no value {only}; the values are {', '.join(values)}")
