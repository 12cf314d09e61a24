"""`identity issuer`: manages trusted issuers, whose JWTs authenticate clients (Kubernetes, SPIFFE, CI)."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from identity_service.cli.options import YesOption
from identity_service.cli.output import Exit, JsonFlag, fail, say, show, show_table
from identity_service.cli.records import Etag, Limit, confirm, first, read_text, texts, time_of
from identity_service.cli.remote import Service, remote
from identityapi.v1 import principal_pb2 as pb

app = typer.Typer(help="Manage trusted issuers, whose JWTs authenticate clients.", no_args_is_help=True)

IssuerName = Annotated[
    str, typer.Argument(metavar="ISSUER", help="The name of the issuer, exactly as in `iss` of its tokens.")
]
JwksUri = Annotated[str | None, typer.Option("--jwks-uri", help="https URL of its JWK Set.")]
JwksFile = Annotated[
    str | None, typer.Option("--jwks-file", help="Path of its JWK Set on the service's machines.")
]
Jwks = Annotated[
    Path | None, typer.Option("--jwks", help="File with its JWK Set, read now and stored by the service.")
]
Audiences = Annotated[
    list[str] | None,
    typer.Option(
        "--audience", "-a", help="Accepted audience of its tokens. Repeatable. Default: the service's issuer."
    ),
]
Algorithms = Annotated[
    list[str] | None, typer.Option("--algorithm", help="Accepted signature algorithm. Repeatable.")
]
RuleClient = Annotated[
    str | None, typer.Option("--client", help="Client that a token authenticates if it has every --claim.")
]
RuleClaims = Annotated[
    list[str] | None,
    typer.Option(
        "--claim", metavar="NAME=VALUE", help="Required claim. A * at the end matches any rest. Repeatable."
    ),
]
PerSubject = Annotated[
    bool, typer.Option("--per-subject", help="The subject is each token's own sub, not the client.")
]
Rules = Annotated[
    Path | None,
    typer.Option(
        "--rules", help="JSON file: a list of {claims, client_id, per_subject}, instead of --client."
    ),
]
SingleUse = Annotated[
    bool | None,
    typer.Option("--single-use/--no-single-use", help="Accept each token (jti) only once."),
]


@app.command("create")
@remote
def create(
    service: Service,
    issuer: IssuerName,
    jwks_uri: JwksUri = None,
    jwks_file: JwksFile = None,
    jwks: Jwks = None,
    client: RuleClient = None,
    claim: RuleClaims = None,
    per_subject: PerSubject = False,
    rules: Rules = None,
    audience: Audiences = None,
    algorithm: Algorithms = None,
    single_use: SingleUse = None,
    max_age: Annotated[int | None, typer.Option(min=1, help="Maximum age since iat, in seconds.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Trust an issuer: from now on, its JWTs authenticate the clients that its rules name."""
    stated = _given_fields(jwks_uri, jwks_file, jwks, audience, algorithm, single_use, max_age)
    stated |= _given_rules(client, claim, rules, per_subject=per_subject)
    with service.admin() as admin:
        made = admin.create_trusted_issuer(pb.TrustedIssuer(issuer=issuer, **stated))
    show(_values(made), as_json=as_json)
    _advise_doctor(stated)


@app.command("list")
@remote
def list_issuers(service: Service, limit: Limit = None, as_json: JsonFlag = False) -> None:
    """List trusted issuers."""
    with service.admin() as admin:
        rows = [_row(issuer) for issuer in first(admin.list_trusted_issuers(), limit)]
    show_table(rows, as_json=as_json, empty="no trusted issuers")


@app.command("show")
@remote
def show_issuer(service: Service, issuer: IssuerName, as_json: JsonFlag = False) -> None:
    """Show one trusted issuer."""
    with service.admin() as admin:
        show(_values(admin.get_trusted_issuer(issuer)), as_json=as_json)


@app.command("update")
@remote
def update(
    service: Service,
    issuer: IssuerName,
    jwks_uri: JwksUri = None,
    jwks_file: JwksFile = None,
    jwks: Jwks = None,
    client: RuleClient = None,
    claim: RuleClaims = None,
    per_subject: PerSubject = False,
    rules: Rules = None,
    audience: Audiences = None,
    algorithm: Algorithms = None,
    single_use: SingleUse = None,
    max_age: Annotated[
        int | None, typer.Option(min=0, help="Maximum age since iat, in seconds; 0 = no limit.")
    ] = None,
    etag: Etag = "",
    as_json: JsonFlag = False,
) -> None:
    """Change the given fields. Rules and lists replace the stored ones."""
    stated = _given_fields(jwks_uri, jwks_file, jwks, audience, algorithm, single_use, max_age)
    stated |= _given_rules(client, claim, rules, per_subject=per_subject)
    if not stated:
        fail("give at least one option that changes a field, such as --jwks-uri", Exit.USAGE, as_json=as_json)
    fields = list(stated)
    if stated.get("max_age") == timedelta(0):
        del stated["max_age"]
    with service.admin() as admin:
        wanted = pb.TrustedIssuer(issuer=issuer, etag=etag, **stated)
        show(_values(admin.update_trusted_issuer(wanted, fields)), as_json=as_json)
    _advise_doctor(stated)


@app.command("delete")
@remote
def delete(service: Service, issuer: IssuerName, yes: YesOption = False, as_json: JsonFlag = False) -> None:
    """Stop trusting an issuer. Tokens issued for its JWTs stay valid until they expire or are revoked."""
    confirm(f"Stop trusting {issuer}?", yes=yes)
    with service.admin() as admin:
        admin.delete_trusted_issuer(issuer)
    show({"issuer": issuer, "deleted": True}, as_json=as_json)


def _advise_doctor(stated: Mapping[str, object]) -> None:
    """Advise to run `identity doctor` if the service itself will read the keys, from a URL or a file."""
    if not {"jwks_uri", "jwks_file"}.isdisjoint(stated):
        say("Run `identity doctor` on the machine of the service: it checks that the keys can be read there.")


def _given_fields(
    jwks_uri: str | None,
    jwks_file: str | None,
    jwks: Path | None,
    audience: list[str] | None,
    algorithm: list[str] | None,
    single_use: bool | None,
    max_age: int | None,
) -> dict[str, Any]:
    """Return the fields that the options set, except the rules."""
    given = {
        "jwks_uri": jwks_uri,
        "jwks_file": jwks_file,
        "jwks": read_text(jwks) if jwks is not None else None,
        "audiences": texts(audience) if audience is not None else None,
        "algorithms": texts(algorithm) if algorithm is not None else None,
        "single_use": single_use,
        "max_age": timedelta(seconds=max_age) if max_age is not None else None,
    }
    if sum(given[source] is not None for source in ("jwks_uri", "jwks_file", "jwks")) > 1:
        fail("give only one of --jwks-uri, --jwks-file and --jwks", Exit.USAGE)
    return {field: value for field, value in given.items() if value is not None}


def _given_rules(
    client: str | None, claims: list[str] | None, file: Path | None, *, per_subject: bool
) -> dict[str, Any]:
    """Return the rules that the options give: the one of --client and --claim, or those of --rules."""
    if (client is None) != (not claims) or (client and file):
        fail("give --client with at least one --claim, or a file of rules with --rules", Exit.USAGE)
    if client is not None:
        pairs = [claim.partition("=") for claim in claims or ()]
        if any(not equals for _, equals, _ in pairs):
            fail("--claim: must be NAME=VALUE", Exit.USAGE)
        wanted = {name: value for name, _, value in pairs}
        if len(wanted) < len(pairs):
            fail("--claim: give each claim once; alternatives are separate rules, see --rules", Exit.USAGE)
        return {"rules": [pb.TrustRule(claims=wanted, client_id=client, per_subject=per_subject)]}
    if file is None:
        return {}
    try:
        return {"rules": [pb.TrustRule(**rule) for rule in json.loads(read_text(file))]}
    except (ValueError, TypeError):
        fail(f"{file}: must be a JSON list of objects with claims, client_id and per_subject", Exit.USAGE)


def _row(issuer: pb.TrustedIssuer) -> dict[str, object]:
    source = issuer.WhichOneof("keys") or ""
    return {
        "issuer": issuer.issuer,
        "keys": "jwks" if source == "jwks" else getattr(issuer, source, ""),
        "clients": sorted({rule.client_id for rule in issuer.rules}),
    }


def _values(issuer: pb.TrustedIssuer) -> dict[str, object]:
    return {
        **_row(issuer),
        "audiences": list(issuer.audiences),
        "algorithms": list(issuer.algorithms),
        "rules": [
            {"claims": dict(rule.claims), "client_id": rule.client_id, "per_subject": rule.per_subject}
            for rule in issuer.rules
        ],
        "single_use": issuer.single_use,
        "max_age": issuer.max_age.ToTimedelta().total_seconds() if issuer.HasField("max_age") else None,
        "create_time": time_of(issuer.create_time),
        "etag": issuer.etag,
    }
