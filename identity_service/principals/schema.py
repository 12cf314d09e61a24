"""The schema of a principals file, and its conversion to records. Strict: unknown fields are errors.

Field names are those of the protos. `document.py` reads the YAML, and services/admin/checks.py checks the
bounds of values, as for the administration API.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from identity_service.config.values import Duration
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.principals import Client, Grant, OnReuse, User, normalize_certificate_name
from identity_service.principals.plan import KINDS, Declaration, Wanted
from identity_service.services.admin.clients import CLIENT_FIELDS
from identity_service.services.admin.issuers import ISSUER_FIELDS
from identity_service.services.admin.users import USER_FIELDS


def _empty(value: object) -> object:
    """Return {} for None, since a name without a value, e.g. `ana:`, is a record with default values."""
    return {} if value is None else value


def _json(value: object) -> object:
    """Return a mapping as JSON text: a JWK may be written as YAML or as JSON text."""
    return json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else value


def _distinct(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _certificate_names(texts: list[str]) -> frozenset[str]:
    return frozenset(map(normalize_certificate_name, texts))


Json = Annotated[str, BeforeValidator(_json)]
Names = Annotated[list[str], AfterValidator(frozenset)]
"""A list of texts in the file, which becomes a set, as records have it."""


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    def stated(self, *without: str) -> dict[str, Any]:
        """Return the fields that the file sets, except those in `without`."""
        return {name: getattr(self, name) for name in self.model_fields_set if name not in without}


class DeclaredClient(_Section):
    """A declared client; its key in the section is its id."""

    display_name: str = ""
    grants: Annotated[
        list[Annotated[Grant, Field(strict=False)]], Field(min_length=1), AfterValidator(frozenset)
    ] = []
    audiences: Names = []
    scopes: Names = []
    max_lifetime: Duration | None = None
    on_reuse: Annotated[OnReuse, Field(strict=False)] = OnReuse.END_SESSION
    disabled: bool = False
    certificates: Annotated[list[str], AfterValidator(_certificate_names)] = []
    public_keys: Annotated[list[Json], AfterValidator(tuple)] = []
    require_binding: bool = False
    exchange_audiences: Names = []
    encryption_key: Json | None = None
    secret: bool = False

    def wanted(self, client_id: str) -> Wanted:
        """Return the declared record of the client with this id."""
        values = self.stated("secret")
        return Wanted(
            record=Client(client_id=PrincipalId(client_id), **values),
            fields=_enforced_fields(CLIENT_FIELDS, values),
            secret=self.secret,
        )


class DeclaredUser(_Section):
    """A declared user; its key in the section is the username. A file never sets passwords."""

    display_name: str = ""
    audiences: Names = []
    scopes: Names = []
    disabled: bool = False

    def wanted(self, username: str) -> Wanted:
        """Return the declared record of the user with this username."""
        values = self.stated()
        return Wanted(
            record=User(user_id=PrincipalId(""), username=username, **values),
            fields=_enforced_fields(USER_FIELDS, values),
        )


class DeclaredRule(_Section):
    """A rule of a trusted issuer: tokens with these claims authenticate this client."""

    claims: dict[str, str]
    client_id: str
    per_subject: bool = False


class DeclaredIssuer(_Section):
    """A declared trusted issuer; its key in the section is its `iss`."""

    jwks_uri: str | None = None
    jwks_file: str | None = None
    jwks: Json | None = None
    audiences: Annotated[list[str], AfterValidator(_distinct)] = []
    algorithms: Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)] = []
    rules: list[DeclaredRule] = []
    single_use: bool = False
    max_age: Duration | None = None

    def wanted(self, issuer: str) -> Wanted:
        """Return the declared record of the trusted issuer with this name."""
        values = self.stated("rules")
        rules = tuple(
            TrustRule(claims=rule.claims, client_id=PrincipalId(rule.client_id), per_subject=rule.per_subject)
            for rule in self.rules
        )
        record = TrustedIssuer(issuer=issuer, rules=rules, **values)
        return Wanted(record=record, fields=tuple(ISSUER_FIELDS))


class DeclaredPrincipals(_Section):
    """The content of a principals file. None = the section is missing."""

    clients: dict[str, Annotated[DeclaredClient, BeforeValidator(_empty)]] | None = None
    users: dict[str, Annotated[DeclaredUser, BeforeValidator(_empty)]] | None = None
    trusted_issuers: dict[str, Annotated[DeclaredIssuer, BeforeValidator(_empty)]] | None = None

    def declaration(self) -> Declaration:
        """Return the declared records of all sections, in the order of KINDS."""
        sections: tuple[Mapping[str, DeclaredClient | DeclaredUser | DeclaredIssuer] | None, ...] = (
            self.clients,
            self.users,
            self.trusted_issuers,
        )
        return Declaration(
            wanted=tuple(
                declared.wanted(name) for section in sections for name, declared in (section or {}).items()
            ),
            kinds=frozenset(
                kind for kind, section in zip(KINDS, sections, strict=True) if section is not None
            ),
        )


def _enforced_fields(fields: tuple[str, ...], stated: Mapping[str, object]) -> tuple[str, ...]:
    """Return the fields whose stored values must equal the declared ones.

    These are all fields, set in the file or not, so that removing a field from the file resets it. The
    exception is `disabled`: a record that an operator disabled in an emergency stays disabled unless the file
    sets the field.
    """
    return tuple(field for field in fields if field != "disabled" or field in stated)


SECTIONS: Final[Mapping[str, type[BaseModel]]] = {
    "clients": DeclaredClient,
    "users": DeclaredUser,
    "trusted_issuers": DeclaredIssuer,
}
"""The model of the records in each section of the file."""
