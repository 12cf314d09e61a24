"""`identity issuer`: manages trusted issuers, whose JWTs authenticate clients (Kubernetes, SPIFFE, CI)."""

import json
from pathlib import Path
from typing import Annotated

import typer

from identity_service.cli.messages import values_of
from identity_service.cli.option_groups import OptionsOf
from identity_service.cli.options import YesOption
from identity_service.cli.output import JsonFlag, fail, say, show, show_table
from identity_service.cli.records import (
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
from identityapi.v1 import principal_pb2 as pb

app = typer.Typer(
    help="Manage trusted issuers, whose JWTs authenticate clients, or let them act for a user (ID-JAG).",
    no_args_is_help=True,
)

IssuerName = Annotated[
    str, typer.Argument(metavar="ISSUER", help="The name of the issuer, exactly as in `iss` of its tokens.")
]


def _given(
    *,
    jwks_uri: Annotated[str | None, typer.Option(help="https URL of its JWK Set.")] = None,
    jwks_file: Annotated[
        str | None, typer.Option(help="Path of its JWK Set on the service's machines.")
    ] = None,
    jwks: Annotated[
        Path | None, typer.Option(help="File with its JWK Set, read now and stored by the service.")
    ] = None,
    client: Annotated[
        str | None, typer.Option(help="Client that a token authenticates if it has every --claim.")
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Required claim. A * at the end matches any rest. Repeatable."
        ),
    ] = None,
    per_subject: Annotated[
        bool, typer.Option("--per-subject", help="The subject is each token's own sub, not the client.")
    ] = False,
    rules: Annotated[
        Path | None,
        typer.Option(help="JSON file: a list of {claims, client_id, per_subject}, instead of --client."),
    ] = None,
    audience: Annotated[
        list[str] | None,
        typer.Option(
            "--audience",
            "-a",
            help="Accepted audience of its tokens. Repeatable. Default: the service's issuer.",
        ),
    ] = None,
    algorithm: Annotated[
        list[str] | None, typer.Option(help="Accepted signature algorithm. Repeatable.")
    ] = None,
    single_use: Annotated[
        bool | None,
        typer.Option("--single-use/--no-single-use", help="Accept each token (jti) only once."),
    ] = None,
    max_age: Annotated[
        int | None, typer.Option(min=0, help="Maximum age since iat, in seconds; 0 = no limit.")
    ] = None,
) -> GivenFields:
    """Return the fields that these options set."""
    if sum(source is not None for source in (jwks_uri, jwks_file, jwks)) > 1:
        fail("give only one of --jwks-uri, --jwks-file and --jwks")
    return GivenFields.of(
        jwks_uri=jwks_uri,
        jwks_file=jwks_file,
        jwks=jwks and read_text(jwks),
        audiences=texts(audience),
        algorithms=texts(algorithm),
        single_use=single_use,
        max_age=seconds(max_age),
        rules=_given_rules(client, claim, rules, per_subject=per_subject),
    )


Given = Annotated[GivenFields, OptionsOf(_given)]


@app.command("create")
def create(*, issuer: IssuerName, given: Given, service: Remote, as_json: JsonFlag = False) -> None:
    """Trust an issuer: from now on, its JWTs authenticate the clients that its rules name."""
    with service.admin() as admin:
        made = admin.create_trusted_issuer(pb.TrustedIssuer(issuer=issuer, **given.values))
    show(_values(made), as_json=as_json)
    _advise_doctor(given)


@app.command("list")
def list_issuers(*, limit: Limit = None, service: Remote, as_json: JsonFlag = False) -> None:
    """List trusted issuers."""
    with service.admin() as admin:
        rows = [_row(issuer) for issuer in first(admin.list_trusted_issuers(), limit)]
    show_table(rows, as_json=as_json, empty="no trusted issuers")


@app.command("show")
def show_issuer(*, issuer: IssuerName, service: Remote, as_json: JsonFlag = False) -> None:
    """Show one trusted issuer."""
    with service.admin() as admin:
        show(_values(admin.get_trusted_issuer(issuer)), as_json=as_json)


@app.command("update")
def update(
    *, issuer: IssuerName, given: Given, etag: Etag = "", service: Remote, as_json: JsonFlag = False
) -> None:
    """Change the given fields. Rules and lists replace the stored ones."""
    given.require("--jwks-uri")
    with service.admin() as admin:
        wanted = pb.TrustedIssuer(issuer=issuer, etag=etag, **given.values)
        show(_values(admin.update_trusted_issuer(wanted, given.names)), as_json=as_json)
    _advise_doctor(given)


@app.command("delete")
def delete(*, issuer: IssuerName, yes: YesOption = False, service: Remote, as_json: JsonFlag = False) -> None:
    """Stop trusting an issuer. Tokens issued for its JWTs stay valid until they expire or are revoked."""
    confirm(f"Stop trusting {issuer}?", yes=yes)
    with service.admin() as admin:
        admin.delete_trusted_issuer(issuer)
    show({"issuer": issuer, "deleted": True}, as_json=as_json)


def _advise_doctor(given: GivenFields) -> None:
    """Advise to run `identity doctor` if the service itself will read the keys, from a URL or a file."""
    if not {"jwks_uri", "jwks_file"}.isdisjoint(given.names):
        say("Run `identity doctor` on the machine of the service: it checks that the keys can be read there.")


def _given_rules(
    client: str | None, claims: list[str] | None, file: Path | None, *, per_subject: bool
) -> list[pb.TrustRule] | None:
    """Return the rules that the options give: the one of --client and --claim, or those of --rules."""
    if (client is None) != (not claims) or (client and file):
        fail("give --client with at least one --claim, or a file of rules with --rules")
    if client is not None:
        pairs = [claim.partition("=") for claim in claims or ()]
        if any(not equals for _, equals, _ in pairs):
            fail("--claim: must be NAME=VALUE")
        wanted = {name: value for name, _, value in pairs}
        if len(wanted) < len(pairs):
            fail("--claim: give each claim once; alternatives are separate rules, see --rules")
        return [pb.TrustRule(claims=wanted, client_id=client, per_subject=per_subject)]
    if file is None:
        return None
    try:
        return [pb.TrustRule(**rule) for rule in json.loads(read_text(file))]
    except (ValueError, TypeError):
        fail(f"{file}: must be a JSON list of objects with claims, client_id and per_subject")


def _row(issuer: pb.TrustedIssuer) -> dict[str, object]:
    source = issuer.WhichOneof("keys") or ""
    return {
        "issuer": issuer.issuer,
        "keys": "jwks" if source == "jwks" else getattr(issuer, source, ""),
        "clients": sorted({rule.client_id for rule in issuer.rules}),
    }


def _values(issuer: pb.TrustedIssuer) -> dict[str, object]:
    values = values_of(issuer)
    # Of the three sources of keys, one is set; keys that the service has stored are too long to show.
    hidden = ("jwks_uri", "jwks_file", "jwks")
    return _row(issuer) | {name: value for name, value in values.items() if name not in hidden}
