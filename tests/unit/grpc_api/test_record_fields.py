"""Each field of a record reaches every place where the records of its kind are stored, shown or declared.

The lists of fields in the code are written by hand, and most fields have defaults: a field that one of them
lacks would be lost without an error.
"""

import re
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest
from google.protobuf.message import Message
from pydantic import BaseModel

from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.principals import Client, User
from identity_service.domain.records import Versioned
from identity_service.grpc_api import admin_answers, admin_convert
from identity_service.principals.schema import DeclaredClient, DeclaredIssuer, DeclaredUser
from identity_service.services.admin.clients import CLIENT_FIELDS
from identity_service.services.admin.issuers import ISSUER_FIELDS
from identity_service.services.admin.users import USER_FIELDS, NewUser
from identityapi.v1 import principal_pb2
from tests.conformance.samples import NOWHERE, a_client, a_user, an_issuer

Kind = type[Client] | type[User] | type[TrustedIssuer]
CHANGEABLE: dict[Kind, tuple[str, ...]] = {
    Client: CLIENT_FIELDS,
    User: USER_FIELDS,
    TrustedIssuer: ISSUER_FIELDS,
}
FIXED: dict[Kind, set[str]] = {
    Client: {"client_id", "secrets", "create_time"},
    User: {"user_id", "password_hash", "create_time"},
    TrustedIssuer: {"issuer", "create_time"},
}
"""The fields that no update can change."""
NAMES_IN_FILES = {"username"}
"""The changeable fields that are the key of a record in a principals file."""
ADDED_BY_FILES = {"secret"}
"""The fields that a principals file has, and a record has not."""
OTHER_SOURCES = {"jwks_file", "jwks"}
"""The sources of an issuer's keys that the sample record does not use: a record has only one source."""
MESSAGES: dict[Kind, type[Message]] = {
    Client: principal_pb2.Client,
    User: principal_pb2.User,
    TrustedIssuer: principal_pb2.TrustedIssuer,
}
DECLARED: dict[Kind, type[BaseModel]] = {
    Client: DeclaredClient,
    User: DeclaredUser,
    TrustedIssuer: DeclaredIssuer,
}
PAGE = Path(__file__).parents[3] / "docs" / "principals-file.md"
every_kind = pytest.mark.parametrize("kind", CHANGEABLE)


def fields_of(kind: Kind) -> set[str]:
    return {field.name for field in fields(kind)}


@every_kind
def test_a_message_has_the_fields_of_its_record(kind: Kind) -> None:
    shown = fields_of(kind) - {"password_hash"} | ({"has_password"} if kind is User else set())

    assert set(MESSAGES[kind].DESCRIPTOR.fields_by_name) == shown | {"etag"}, (
        "compare protos/identityapi/v1/principal.proto"
    )


@every_kind
def test_every_field_can_be_updated_unless_it_is_fixed(kind: Kind) -> None:
    assert set(CHANGEABLE[kind]) == fields_of(kind) - FIXED[kind], "compare *_FIELDS in services/admin"


def test_a_user_is_created_with_every_field_that_can_be_updated() -> None:
    assert {field.name for field in fields(NewUser)} == {*USER_FIELDS, "password"}


@every_kind
def test_a_principals_file_may_have_every_field_that_can_be_updated(kind: Kind) -> None:
    declared = DECLARED[kind].model_fields.keys() - ADDED_BY_FILES

    assert declared == set(CHANGEABLE[kind]) - NAMES_IN_FILES, "compare principals/schema.py"


@pytest.mark.parametrize(
    ("kind", "row"), [(Client, "client"), (User, "user"), (TrustedIssuer, "trusted issuer")]
)
def test_the_page_of_principals_files_names_every_field(kind: Kind, row: str) -> None:
    (cell,) = re.findall(rf"^\| {row} \| (.+) \|$", PAGE.read_text(), re.MULTILINE)

    assert DECLARED[kind].model_fields.keys() - re.findall("`([a-z_]+)`", cell) == set()


@pytest.mark.parametrize("sample", [a_client(), a_user(), an_issuer()], ids=["client", "user", "issuer"])
def test_the_samples_of_the_stores_give_each_field_another_value_than_its_default(
    sample: Client | User | TrustedIssuer,
) -> None:
    defaults = {field.name: field.default for field in fields(sample) if field.default is not MISSING}

    left = {name for name, default in defaults.items() if getattr(sample, name) == default}
    assert left <= OTHER_SOURCES, "give these fields values in tests/conformance/samples.py"


def test_the_fields_of_a_client_are_converted_in_both_directions() -> None:
    client = a_client()
    message = admin_answers.from_client(Versioned(record=client, revision=NOWHERE))

    assert admin_convert.to_client(message) == replace(client, secrets=(), create_time=None)


def test_the_fields_of_a_user_are_converted_in_both_directions() -> None:
    user = a_user()
    message = admin_answers.from_user(Versioned(record=user, revision=NOWHERE))

    assert admin_convert.to_user(message) == replace(user, password_hash=None, create_time=None)


def test_the_fields_of_a_trusted_issuer_are_converted_in_both_directions() -> None:
    issuer = an_issuer()
    message = admin_answers.from_trusted_issuer(Versioned(record=issuer, revision=NOWHERE))

    assert admin_convert.to_trusted_issuer(message) == replace(issuer, create_time=None)
